"""Mean hidden states of texts under a base, by which similar texts are found."""

from __future__ import annotations

import torch
from torch import Tensor

from deltadex.engine.replies import Decoder, batches, padded
from deltadex.engine.text_requests import Texts
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError

_BATCH = 8


def mean_states(request: Texts) -> Tensor:
    """Return `(n, hidden_size)` float32: the mean of the last hidden states over the tokens of each text.

    The first token is left out where there are others: its state has a norm of its own and says nothing about the text
    (attention sinks, arXiv 2309.17453).

    Raises
    ------
    DeltadexError
        The base cannot be loaded or run, or its states are not finite.
    """
    decoder = Decoder.of(request.base, request.base.checkpoint)
    at_most = min(request.max_tokens, decoder.positions)
    rows = [ids[:at_most] or (0,) for ids in decoder.encode(request.texts)]
    model = load_decoder(decoder.stored, decoder.device)
    means: list[Tensor] = [torch.empty(0)] * len(rows)
    with torch.inference_mode():
        for batch in batches([len(row) for row in rows], most=_BATCH):
            ids, mask = padded([rows[number] for number in batch], 0, on_left=False)
            read = model.base_model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
            for number, states in zip(batch, read.last_hidden_state, strict=True):
                own = states[: len(rows[number])].float().cpu()
                means[number] = (own[1:] if len(own) > 1 else own).mean(dim=0)
    stacked = torch.stack(means)
    if not torch.isfinite(stacked).all():
        raise EmbeddingError(f"The hidden states of {decoder} are not finite", hint="Do its weights hold NaN?")
    return stacked
