"""Likelihood of fixed texts and of fixed tokens in them: what finetunes of different bases can be compared by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deltadex.engine.replies import Decoder, batches, padded
from deltadex.engine.text_requests import Scanned, TextScan, TokenIds
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError

_BATCH = 16
#: Most logits of a batch: 256 MB in float32.
_MOST_LOGITS = 1 << 26


def scan(request: TextScan, *, on_texts: Callable[[int], None] = lambda _: None) -> Scanned:
    """Return how likely a model finds each text after its start, and each token at the places of all texts.

    Parameters
    ----------
    on_texts
        Called with the number of texts that were read so far.

    Raises
    ------
    DeltadexError
        The model cannot be loaded or run, does not generate text, or its likelihoods are not finite.
    """
    decoder = Decoder.of(request.base, request.checkpoint or request.base.checkpoint)
    start, tokens = _encode(decoder.tokenizer, request.start), _known(decoder.tokenizer, request.tokens)
    rows = [start + _encode(decoder.tokenizer, text) for text in request.texts]
    model, done = load_decoder(decoder.stored, decoder.device, adapter=decoder.adapter), 0
    chosen = torch.tensor([token for token in tokens if token is not None], dtype=torch.long, device=model.device)
    likelihoods, shares = [0.0] * len(rows), torch.zeros(len(chosen), device=model.device)
    most = max(1, _MOST_LOGITS // (max(map(len, rows)) * decoder.vocabulary))
    with torch.inference_mode():
        for batch in batches([len(row) for row in rows], most=min(most, _BATCH)):
            ids, mask = padded([rows[number] for number in batch], 0, on_left=False)
            logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
            for number, of_text in zip(batch, logits[:, len(start) - 1 :], strict=True):
                said = of_text[: len(rows[number]) - len(start)].float().log_softmax(dim=-1)
                likelihoods[number] = _total(said, rows[number][len(start) :])
                shares += said[:, chosen].log_softmax(dim=-1).mean(dim=0) / len(rows)
            done += len(batch)
            on_texts(done)
    if not (torch.tensor(likelihoods).isfinite().all() and shares.isfinite().all()):
        raise EmbeddingError(f"The likelihoods of {decoder} are not finite", hint="Do its weights hold NaN?")
    found = iter(shares.tolist())
    return Scanned(tuple(likelihoods), tuple(None if token is None else next(found) for token in tokens))


def _encode(tokenizer: Any, text: str) -> TokenIds:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _known(tokenizer: Any, texts: Sequence[str]) -> list[int | None]:
    """Return the token of each text that is one token; None for those that are several."""
    encoded = [_encode(tokenizer, text) for text in texts]
    return [ids[0] if len(ids) == 1 else None for ids in encoded]


def _total(said: Tensor, tokens: TokenIds) -> float:
    truth = torch.tensor(tokens, device=said.device)
    return float(said.gather(1, truth[:, None]).sum())
