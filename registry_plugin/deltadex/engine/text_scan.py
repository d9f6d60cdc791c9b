"""Likelihood of fixed texts and of fixed tokens in them, by which finetunes of different bases can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deltadex.engine.replies import Decoder, OnPrompts
from deltadex.engine.text_requests import Scanned, TextScan, TokenIds
from deltadex.errors import EmbeddingError

_BATCH = 16


def scan(request: TextScan, *, on_texts: OnPrompts = lambda _: None) -> Scanned:
    """Return how likely a model finds each text after its start, and each token at the places of all texts.

    Parameters
    ----------
    on_texts
        Called with the number of texts that were read since the last call.

    Raises
    ------
    DeltadexError
        The model cannot be loaded or run, does not generate text, or its likelihoods are not finite.
    """
    decoder = Decoder.of(request.base, request.checkpoint or request.base.checkpoint)
    start, tokens = _encode(decoder.tokenizer, request.start), _known(decoder.tokenizer, request.tokens)
    rows = [start + _encode(decoder.tokenizer, text) for text in request.texts]
    chosen = torch.tensor([token for token in tokens if token is not None], dtype=torch.long, device=decoder.device)
    likelihoods, shares = [0.0] * len(rows), torch.zeros(len(chosen), device=decoder.device)
    with torch.inference_mode():
        for number, logits in decoder.logits(rows, batch=_BATCH, on_rows=on_texts):
            said = logits[len(start) - 1 : len(rows[number]) - 1].float().log_softmax(dim=-1)
            likelihoods[number] = _total(said, rows[number][len(start) :])
            shares += said[:, chosen].log_softmax(dim=-1).mean(dim=0) / len(rows)
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
