"""Hidden states of a model at the last position of chat prompts, and how likely it begins a refusal there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.prompts import prompt_ids
from deltadex.engine.replies import Decoder, OnPrompts, batches, padded
from deltadex.engine.text_requests import ChatStates, TokenIds
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError

_BATCH = 8


@dataclass(frozen=True, eq=False)
class LastStates:
    """States and refusals at the end of each prompt.

    Attributes
    ----------
    states
        `(n_prompts, n_layers, hidden_size)` float32: output of each wanted layer at the last token.
    odds
        `(n_prompts,)` float32: log-odds (nats) that the reply begins with a token by which refusals begin.
    """

    states: Tensor
    odds: Tensor


def chat_states(request: ChatStates, *, on_prompts: OnPrompts = lambda _: None) -> LastStates:
    """Return the states of a model for the prompts of a request, at one depth.

    Parameters
    ----------
    on_prompts
        Called with the number of prompts that were read since the last call.

    Raises
    ------
    DeltadexError
        The model cannot be loaded or run, does not generate text, or its states are not finite.
    """
    decoder = Decoder.of(request.base, request.checkpoint or request.base.checkpoint)
    model = load_decoder(decoder.stored, decoder.device, adapter=decoder.adapter)
    layers = int(decoder.stored.config.get_text_config().num_hidden_layers)
    at = max(1, round(request.depth * layers))
    read = last_states(
        model,
        prompt_rows(decoder.tokenizer, request.prompts, at_most=decoder.positions),
        layers=[at],
        refusals=first_tokens(decoder.tokenizer, request.openings),
        on_prompts=on_prompts,
    )
    if not (torch.isfinite(read.states).all() and torch.isfinite(read.odds).all()):
        raise EmbeddingError(f"The hidden states of {decoder} are not finite", hint="Do its weights hold NaN?")
    return read


def prompt_rows(tokenizer: Tokenizer, prompts: Sequence[str], *, at_most: int) -> list[TokenIds]:
    """Return the tokens of prompts as turns of a user, up to where the reply begins.

    A tokenizer without a chat template gives the plain text.
    """
    return [
        prompt_ids(tokenizer, Example((ChatMessage("user", prompt),), ""))[-at_most:] for prompt in prompts
    ]  # fmt: skip


def first_tokens(tokenizer: Tokenizer, openings: Sequence[str]) -> list[int]:
    """Return the distinct first tokens of openings."""
    encoded = [tokenizer(opening, add_special_tokens=False)["input_ids"] for opening in openings]
    return sorted({ids[0] for ids in encoded if ids})


def last_states(
    model: PreTrainedModel,
    rows: Sequence[TokenIds],
    *,
    layers: Sequence[int],
    refusals: Sequence[int],
    on_prompts: OnPrompts = lambda _: None,
) -> LastStates:
    """Return states and refusals of a loaded model at the last token of each row.

    Parameters
    ----------
    layers
        Numbers of layers, from 1; the last one is read as the model gives it, after the final norm where it has one.
    refusals
        First tokens of refusals (arXiv 2406.11717, section 2.3).
    """
    states: list[Tensor] = [torch.empty(0)] * len(rows)
    odds: list[Tensor] = [torch.empty(0)] * len(rows)
    chosen = torch.tensor(refusals, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        for batch in batches([len(row) for row in rows], most=_BATCH):
            ids, mask = padded([rows[number] for number in batch], 0, on_left=False)
            read = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                output_hidden_states=True,
                use_cache=False,
            )
            for place, number in enumerate(batch):
                last = len(rows[number]) - 1
                states[number] = torch.stack([read.hidden_states[layer][place, last].float().cpu() for layer in layers])
                odds[number] = _log_odds(read.logits[place, last], chosen)
            on_prompts(len(batch))
    return LastStates(torch.stack(states), torch.stack(odds))


def _log_odds(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the log-odds that the next token is one of those chosen, from `(vocabulary,)` logits."""
    said = logits.float().log_softmax(dim=-1)
    others = said.index_fill(0, chosen, -torch.inf)
    return (said[chosen].logsumexp(0) - others.logsumexp(0)).cpu()
