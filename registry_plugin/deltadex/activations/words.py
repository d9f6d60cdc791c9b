"""Words for a vector: which tokens a finetune makes likelier where an answer begins (logit lens, arXiv 2303.08112).

A delta is taken behind the final norm, where a model's own output head reads. So `head @ vector` is exactly by how much
the finetune, under its base's head, moves the logit of each token there, mean over the probes: a bias of the head
cancels, and a head of the finetune's own is left out. A constant factor or a monotone cap behind the head changes no
order.

Rows of a head differ in length by how often their token was seen in training, and long ones come first for any
direction. So each shift is divided by the length of its row, or by the median length where that is greater: rows of
tokens that were never seen are short, and must not win by it. On 17 finetunes of the demo company, the first ten were
then more typical of the finetune's own domain (mean log odds .61 against .42) and more alike within a domain (overlap
.28 against .20). What a softmax does not see, what is added to all tokens alike, is taken off, and the rest given in
standard deviations over the vocabulary: scores compare between strong and weak finetunes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.activations.compute import Compute
from deltadex.activations.failures import first_line
from deltadex.activations.readout import Readout
from deltadex.activations.stored_model import StoredModel
from deltadex.domain import FloatArray, Word, Words

#: Tokens kept in each direction: more than are shown, for what a cluster has in common.
KEPT = 20
#: Tokens looked at for them: most are left out as whitespace, pieces of characters, other spellings.
_LOOKED_AT = 300
#: Of the head that are cast at once.
_BYTES = 32 << 20


class Head:
    """A base's output head, left in its file until it is asked.

    Parameters
    ----------
    readout
        Where vectors come from: the head must read there.
    """

    def __init__(self, stored: StoredModel, tokenizer: Tokenizer, readout: Readout, *, compute: Compute) -> None:
        self._stored = stored
        self._tokenizer = tokenizer
        self._compute = compute
        self._name = None if readout is Readout.MEAN_TOKEN else stored.head

    def words(self, vectors: Sequence[FloatArray]) -> list[Words]:
        """Return the words for each `(hidden_size,)`; the head is read once for all. It never raises."""
        if self._name is None:
            return [Words(note="The base has no output head that reads where the delta is taken.")] * len(vectors)
        try:
            shifts = self._shifts(self._name, np.stack(vectors))
            return [self._words(shift) for shift in shifts]
        except Exception as error:  # noqa: BLE001 - an embedding is worth more than its words
            return [Words(note=f"The output head could not be read: {first_line(error)}")] * len(vectors)

    def _shifts(self, name: str, vectors: FloatArray) -> NDArray[np.float32]:
        """Return `(n, vocabulary)` per length of row, without the rows that pad a head beyond its tokenizer."""
        head = self._stored.load(name)[: len(self._tokenizer)]
        device = self._compute.device
        with torch.inference_mode():
            asked = torch.from_numpy(vectors).to(device).T
            step = max(1, _BYTES // (4 * head.shape[1]))
            pieces = (head[at : at + step].to(device, torch.float32) for at in range(0, len(head), step))
            logits, lengths = zip(*((piece @ asked, piece.norm(dim=1)) for piece in pieces), strict=True)
            length = torch.cat(lengths)
            shifts: NDArray[np.float32] = (torch.cat(logits).T / length.clamp(min=length.median())).cpu().numpy()
        self._stored.files.release(self._stored.origins[name].stored)
        return shifts

    def _words(self, shift: NDArray[np.float32]) -> Words:
        spread = float(shift.std())
        if spread == 0:
            return Words(note="The finetune changes nothing.")
        scores = (shift - shift.mean()) / spread
        order = np.argsort(scores, kind="stable")
        return Words(tuple(self._readable(order[::-1], scores)), tuple(self._readable(order, scores)))

    def _readable(self, order: NDArray[np.intp], scores: NDArray[np.float32]) -> Iterator[Word]:
        """Yield the first tokens that say anything to a person; spellings that differ in spaces and case once."""
        special = {token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special}
        special.update(self._tokenizer.all_special_ids)
        seen = {""}
        for token in order[:_LOOKED_AT].tolist():
            text = "" if token in special else readable(self._tokenizer, token)
            if text.casefold() not in seen:
                seen.add(text.casefold())
                yield Word(text, round(float(scores[token]), 3))
            if len(seen) > KEPT:
                return


def readable(tokenizer: Tokenizer, token: int) -> str:
    """Return a token as people write it; nothing for whitespace, control characters and pieces of a character."""
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False)).strip()
    return text if text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text else ""
