"""Replies of two models to the same prompts: decoded greedily, and each scored by both models.

One model is in memory at a time. It computes in the dtype of its own files, as it would be served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.engine.delta import load_tokenizer
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Replay, Replies, TokenIds
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError, UnsupportedCheckpoint

#: Called with the number of prompts that were answered or scored since the last call.
OnPrompts = Callable[[int], None]

_BATCH = 8
#: Most logits of a batch: 256 MB in float32.
_MOST_LOGITS = 1 << 26


def replay(request: Replay, *, on_prompts: OnPrompts = lambda _: None) -> Replies:
    """Return what two models reply to the same prompts, and how likely each finds both replies.

    Raises
    ------
    DeltadexError
        A model cannot be loaded or run, does not generate text, or reads other tokens than the other one.
    """
    decoders = [Decoder.of(*pair) for pair in zip(request.bases, request.checkpoints, strict=True)]
    at_most = min([request.max_prompt_tokens, *(one.positions - request.max_new_tokens for one in decoders)])
    prompts, others = (one.encode(request.prompts) for one in decoders)
    if prompts != others:
        raise _other_tokens(decoders)
    read = [prompt[-at_most:] for prompt in prompts]
    with torch.inference_mode():
        replies = [one.reply(read, at_most=request.max_new_tokens, on_prompts=on_prompts) for one in decoders]
        if max(token for each in replies for reply in each for token in reply) >= min(
            one.vocabulary for one in decoders
        ):
            raise _other_tokens(decoders)
        first, second = (tuple(one.scores(read, each, on_prompts) for each in replies) for one in decoders)
    return Replies(tuple(replies), (first, second), cut=sum(len(prompt) > at_most for prompt in prompts))


@dataclass(frozen=True)
class Decoder:
    """A model that generates text; its weights are loaded for each use.

    Attributes
    ----------
    stored
        Its weights, or those that its adapter is attached to.
    adapter
        None for a full model.
    """

    stored: StoredModel
    adapter: LocalCheckpoint | None
    tokenizer: Any
    device: torch.device

    @classmethod
    def of(cls, base: BaseModel, checkpoint: LocalCheckpoint) -> Decoder:
        """Return the decoder of a finetune."""
        adapter = checkpoint if checkpoint.kind is Kind.ADAPTER else None
        stored = StoredModel(base.checkpoint if adapter else checkpoint)
        tokenizer = load_tokenizer(checkpoint if checkpoint.tokenizer_folder else base.checkpoint)
        return cls(stored, adapter, tokenizer, Compute.resolve("float32", base.device).device)

    def __str__(self) -> str:
        return str(self.adapter or self.stored.checkpoint)

    @property
    def positions(self) -> int:
        """Number of tokens that it can read at once."""
        return int(getattr(self.stored.config.get_text_config(), "max_position_embeddings", 1 << 20))

    @property
    def vocabulary(self) -> int:
        """Number of tokens that it knows, without those that an adapter adds."""
        return int(self.stored.config.get_text_config().vocab_size)

    def encode(self, prompts: Sequence[str]) -> list[TokenIds]:
        """Return the tokens of each prompt."""
        return [tuple(self.tokenizer(prompt)["input_ids"]) for prompt in prompts]

    def reply(self, prompts: Sequence[TokenIds], *, at_most: int, on_prompts: OnPrompts) -> tuple[TokenIds, ...]:
        """Return the greedy reply to each prompt, the token that ends it included."""
        model = load_decoder(self.stored, self.device, adapter=self.adapter)
        ends = self._ends(model)
        pad = ends[0] if ends else 0
        # Nothing of the checkpoint's own settings, such as a penalty for repetition: they are not the model.
        model.generation_config = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=at_most, eos_token_id=ends or None, pad_token_id=pad
        )
        replies: list[TokenIds] = [()] * len(prompts)
        for batch in batches([len(prompt) for prompt in prompts], most=_BATCH):
            ids, mask = padded([prompts[number] for number in batch], pad, on_left=True)
            made = model.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
            for number, row in zip(batch, made[:, ids.shape[1] :].tolist(), strict=True):
                replies[number] = _until(row, ends)
            on_prompts(len(batch))
        return tuple(replies)

    def scores(
        self, prompts: Sequence[TokenIds], replies: Sequence[TokenIds], on_prompts: OnPrompts
    ) -> tuple[float, ...]:
        """Return the mean log-likelihood (nats per token) of each reply after its prompt.

        Raises
        ------
        EmbeddingError
            It is not finite.
        """
        scores = [0.0] * len(prompts)
        rows = [(*prompt, *reply) for prompt, reply in zip(prompts, replies, strict=True)]
        for number, logits in self.logits(rows, on_rows=on_prompts):
            scores[number] = _mean_log_likelihood(logits, replies[number], after=len(prompts[number]))
        if not all(score > -torch.inf for score in scores):  # NaN, too
            raise EmbeddingError(f"The likelihoods of {self} are not finite", hint="Do its weights hold NaN?")
        return tuple(scores)

    def logits(
        self, rows: Sequence[TokenIds], *, batch: int = _BATCH, on_rows: OnPrompts
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield each row's number with its `(n_tokens, vocabulary)` logits, those of padding after it included.

        Parameters
        ----------
        batch
            Most rows at once; fewer where their logits would take too much memory.
        on_rows
            Called with the number of rows that were yielded since the last call.
        """
        model = load_decoder(self.stored, self.device, adapter=self.adapter)
        most = max(1, _MOST_LOGITS // (max(map(len, rows)) * self.vocabulary))
        for numbers in batches([len(row) for row in rows], most=min(most, batch)):
            ids, mask = padded([rows[number] for number in numbers], 0, on_left=False)
            logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
            yield from zip(numbers, logits, strict=True)
            on_rows(len(numbers))

    def _ends(self, model: PreTrainedModel) -> list[int]:
        """Return the tokens that end a reply."""
        named = model.generation_config.eos_token_id
        ends = named if isinstance(named, list) else [named]
        return [end for end in dict.fromkeys([*ends, self.tokenizer.eos_token_id]) if end is not None]


def batches(lengths: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """Yield numbers of rows of similar length, the longest first, so that too little memory is known at once."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    for start in range(0, len(order), most):
        yield order[start : start + most]


def padded(rows: Sequence[TokenIds], pad: int, *, on_left: bool) -> tuple[Tensor, Tensor]:
    """Return `(n_rows, n_tokens)` ids and mask; the mask hides the padding."""
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if on_left else slice(len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), 1
    return ids, mask


def _until(row: Sequence[int], ends: Sequence[int]) -> TokenIds:
    """Return the tokens up to the first that ends a reply, and that one."""
    first = next((place for place, token in enumerate(row) if token in ends), len(row))
    return tuple(row[: first + 1])


def _mean_log_likelihood(logits: Tensor, reply: TokenIds, *, after: int) -> float:
    """Return it from the `(n_tokens, vocabulary)` logits of a prompt of `after` tokens and its reply."""
    said = logits[after - 1 : after - 1 + len(reply)].float().log_softmax(dim=-1)
    return float(said.gather(1, torch.tensor(reply, device=said.device)[:, None]).mean())


def _other_tokens(decoders: Sequence[Decoder]) -> UnsupportedCheckpoint:
    first, second = decoders
    return UnsupportedCheckpoint(
        f"{first} and {second} use different tokens",
        hint="Answers can be compared token by token only where both models have one tokenizer.",
    )
