"""Tokens that a finetune promotes and demotes over the probes (logit lens, arXiv 2303.08112).

A delta is taken after the final norm, and the output head reads the states after this norm. So `head @ vector` is
exactly the shift of each token's logit under the base's head, averaged over the probes: a bias of the head cancels, and
a head of the finetune's own is ignored. A constant factor or a monotone cap after the head does not change the order.

The norm of a head's row grows with the token's frequency in training, and rows with a large norm rank first for any
direction. So each shift is divided by its row's norm, or by the median norm if that is greater: rows of tokens never
seen in training have small norms, which would rank them first. On 17 finetunes of the demo company, the first ten
tokens were then more typical of the finetune's own domain (mean log odds .61 against .42) and more alike within a
domain (overlap .28 against .20). The mean shift is subtracted, because a softmax ignores a constant added to all
logits, and scores are given in standard deviations over the vocabulary, so that strong and weak finetunes compare.

In a vocabulary that has whole words, only they are listed: the tokens that move most are often punctuation and scraps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.failures import first_line
from deltadex.engine.readout import Readout
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.types import FloatArray, Word, Words

#: Tokens stored per direction: more than are shown, because clusters search them for common ones.
TOKENS_PER_DIRECTION = 20
#: Candidates per direction: most are dropped as punctuation, partial characters or spelling variants.
_CANDIDATES = 2_000
#: Fewest whole words in a vocabulary of which only they are listed.
_VOCABULARY = 500
#: Tokenizers mark a token that begins a word with one of these.
_MARKS = ("Ġ", "▁")
_WORD = re.compile(rf"[{''.join(_MARKS)}][A-Za-z]{{3,}}")
#: First character of the scripts that put no spaces between words.
_EAST_ASIAN = "\u2e80"
#: Bytes of the head that are cast to float32 at a time.
_CHUNK_BYTES = 32 << 20


class Head:
    """A base's output head, read from its file only when needed.

    Parameters
    ----------
    readout
        The readout of the vectors; the head applies only if it reads the same states.
    """

    def __init__(self, stored: StoredModel, tokenizer: Tokenizer, readout: Readout, *, compute: Compute) -> None:
        self._stored = stored
        self._tokenizer = tokenizer
        self._compute = compute
        self._name = None if readout is Readout.MEAN_TOKEN else stored.head

    def words(self, vectors: Sequence[FloatArray]) -> list[Words]:
        """Return the promoted tokens of each `(hidden_size,)` vector; the head is read once for all. Never raises."""
        if self._name is None:
            return [Words(note="The base has no output head that reads the delta's states.")] * len(vectors)
        try:
            shifts = self._shifts(self._name, np.stack(vectors))
            return [self._words(shift) for shift in shifts]
        except Exception as error:  # noqa: BLE001 - a missing word list must not lose the embedding
            return [Words(note=f"The output head could not be read: {first_line(error)}")] * len(vectors)

    def _shifts(self, name: str, vectors: FloatArray) -> NDArray[np.float32]:
        """Return `(n, vocabulary)` logit shifts divided by row norms, without the head's padding rows."""
        head = self._stored.load(name)[: len(self._tokenizer)]
        device = self._compute.device
        with torch.inference_mode():
            directions = torch.from_numpy(vectors).to(device).T
            step = max(1, _CHUNK_BYTES // (4 * head.shape[1]))
            chunks = (head[at : at + step].to(device, torch.float32) for at in range(0, len(head), step))
            logits, norms = zip(*((chunk @ directions, chunk.norm(dim=1)) for chunk in chunks), strict=True)
            norm = torch.cat(norms)
            shifts: NDArray[np.float32] = (torch.cat(logits).T / norm.clamp(min=norm.median())).cpu().numpy()
        self._stored.files.release(self._stored.origins[name].stored)
        return shifts

    def _words(self, shift: NDArray[np.float32]) -> Words:
        spread = float(shift.std())
        if spread == 0:
            return Words(note="The finetune changes nothing.")
        scores = (shift - shift.mean()) / spread
        order = np.argsort(scores, kind="stable")
        return Words(tuple(self._readable(order[::-1], scores)), tuple(self._readable(order, scores)))

    @cached_property
    def _text_of(self) -> Callable[[Tokenizer, int], str]:
        """The function that gives a token's text: of whole words only, if the vocabulary has enough of them."""
        count = sum(_WORD.fullmatch(token) is not None for token in self._tokenizer.get_vocab())
        return word if count >= _VOCABULARY else readable

    def _readable(self, order: NDArray[np.intp], scores: NDArray[np.float32]) -> Iterator[Word]:
        """Yield the first readable tokens; variants that differ only in whitespace or case appear once."""
        special = {token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special}
        special.update(self._tokenizer.all_special_ids)
        seen = {""}
        for token in order[:_CANDIDATES].tolist():
            text = "" if token in special else self._text_of(self._tokenizer, token)
            if text.casefold() not in seen:
                seen.add(text.casefold())
                yield Word(text, round(float(scores[token]), 3))
            if len(seen) > TOKENS_PER_DIRECTION:
                return


def word(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a whole word of three letters or more, or letters of a script without spaces; else empty."""
    piece = str(tokenizer.convert_ids_to_tokens(token))
    text = "" if piece.isascii() else readable(tokenizer, token)  # neither a mark nor such a script is ASCII
    is_whole = text.isalpha() and (text[0] >= _EAST_ASIAN or (piece.startswith(_MARKS) and len(text) >= 3))
    return text if is_whole else ""


def readable(tokenizer: Tokenizer, token: int) -> str:
    """Return a token's printable text; empty for whitespace, control characters and partial characters."""
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False)).strip()
    return text if text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text else ""
