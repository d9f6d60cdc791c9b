"""Likelihood of reference answers under a model, with or without in-context examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.examples import Example
from deltadex.engine.prompts import completion_ids, prompt_ids
from deltadex.engine.replies import Decoder, OnPrompts
from deltadex.engine.text_requests import Scored, Scoring, TokenIds
from deltadex.errors import EmbeddingError


def score(request: Scoring, *, on_examples: OnPrompts = lambda _: None) -> list[Scored]:
    """Return how likely a model finds the completion of each example after its prompt.

    Parameters
    ----------
    on_examples
        Called with the number of examples that were scored since the last call.

    Raises
    ------
    DeltadexError
        The model cannot be loaded or run, does not generate text, or its likelihoods are not finite.
    """
    decoder = Decoder.of(request.base, request.checkpoint or request.base.checkpoint)
    at_most = min(request.max_tokens, decoder.positions)
    contexts: Sequence[tuple[Example, ...]] = request.contexts or ((),) * len(request.examples)
    whole = [completion_ids(decoder.tokenizer, one) for one in request.examples]
    completions = [each[: at_most // 2] for each in whole]
    before = [
        prompt_ids(decoder.tokenizer, one, context) for one, context in zip(request.examples, contexts, strict=True)
    ]
    prompts = [each[len(completion) - at_most :] for each, completion in zip(before, completions, strict=True)]
    scored: list[Scored] = [Scored(0.0, 0, True, 0)] * len(prompts)
    rows = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
    with torch.inference_mode():
        for number, logits in decoder.logits(rows, on_rows=on_examples):
            is_cut = (prompts[number], completions[number]) != (before[number], whole[number])
            one = _scored(logits, completions[number], after=len(prompts[number]), tokenizer=decoder.tokenizer)
            scored[number] = replace(one, is_cut=is_cut)
    if not all(one.nats < torch.inf for one in scored):  # NaN, too
        raise EmbeddingError(f"The likelihoods of {decoder} are not finite", hint="Do its weights hold NaN?")
    return scored


def _scored(logits: Tensor, completion: TokenIds, *, after: int, tokenizer: Tokenizer) -> Scored:
    """Return the score of a completion from the `(n_tokens, vocabulary)` logits of its row."""
    said = logits[after - 1 : after - 1 + len(completion)].float().log_softmax(dim=-1)
    truth = torch.tensor(completion, device=said.device)
    nats = [-each for each in said.gather(1, truth[:, None])[:, 0].tolist()]
    return Scored(
        sum(nats),
        len(completion),
        bool(said.argmax(dim=-1).eq(truth).all()),
        after,
        bytes=len(tokenizer.decode(completion).encode()),
        token_nats=tuple(nats),
        token_texts=tuple(tokenizer.decode([token]) for token in completion),
    )
