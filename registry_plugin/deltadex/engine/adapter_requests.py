"""Requests to train, merge and extract adapters, and their results. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.examples import Example
from deltadex.engine.requests import BaseModel, Finetune


@dataclass(frozen=True)
class Tuning:
    """An adapter to train from examples of a task.

    Attributes
    ----------
    base
        The frozen base model, used in the dtype of its files.
    folder
        Destination of the adapter.
    learning_rate
        Initial rate of AdamW for a hidden size of 1,000. It is scaled by 1,000 / hidden size, because wider models need
        a lower rate, and decays linearly to a tenth.
    rank
        Rank of the LoRA at every linear layer; alpha is twice the rank.
    batch
        Examples per step; limited to their number.
    max_tokens
        Token limit per example; the prompt gets at most a third.
    as_scored
        True to train on prompts and completions as `Scoring` has them, and to learn the completions alone.
    """

    base: BaseModel
    examples: tuple[Example, ...]
    folder: Path
    steps: int
    learning_rate: float
    rank: int = 8
    batch: int = 4
    max_tokens: int = 48
    seed: int = 0
    as_scored: bool = False
    task: Literal["tune"] = "tune"


@dataclass(frozen=True)
class Extraction:
    """An adapter to extract from a full model.

    Attributes
    ----------
    base_name
        Name of the base in the adapter's config.
    folder
        Destination of the adapter.
    rank
        Its rank; None for the smallest one that holds the difference.
    """

    finetune: Finetune
    base: BaseModel
    base_name: str
    folder: Path
    rank: int | None = None
    task: Literal["extract"] = "extract"


@dataclass(frozen=True)
class AdapterComparison:
    """A full model and an adapter extracted from it, which both continue the probes by so many tokens."""

    finetune: LocalCheckpoint
    adapter: LocalCheckpoint
    base: BaseModel
    tokens: int
    task: Literal["compare"] = "compare"


@dataclass(frozen=True)
class AdapterMerge:
    """LoRA adapters of one base to merge into one; see `deltadex.engine.merging`.

    Attributes
    ----------
    base_name
        Name of the base in the merged adapter's config.
    weights
        A factor per adapter.
    method
        Combination type of peft's `add_weighted_adapter`.
    folder
        Destination of the merged adapter.
    density
        Share of the entries that a pruning method keeps; None for the others.
    rank
        Rank for methods that end in `svd`; None for the largest of the parents.
    seed
        Seed of methods that prune at random.
    """

    base: BaseModel
    base_name: str
    adapters: tuple[LocalCheckpoint, ...]
    weights: tuple[float, ...]
    method: str
    folder: Path
    density: float | None = None
    rank: int | None = None
    seed: int = 0
    task: Literal["merge"] = "merge"


@dataclass(frozen=True)
class MergedAdapter:
    """An adapter that was merged from others.

    Attributes
    ----------
    conflict
        Share of the larger entries of the parents' updates at which two of them pull in opposite directions, mean over
        the modules; see `deltadex.engine.merging`.
    """

    rank: int
    adapter_bytes: int
    conflict: float


@dataclass(frozen=True)
class WeightSearch:
    """Weights to find for the sum of LoRA adapters, from examples of a task; see `deltadex.engine.weight_search`.

    Attributes
    ----------
    examples, held_out
        Examples that the search sees, and others that only judge what it found.
    budget
        Number of weightings that the search tries.
    max_tokens
        Token limit per example; a completion gets at most half.
    """

    base: BaseModel
    adapters: tuple[LocalCheckpoint, ...]
    examples: tuple[Example, ...]
    held_out: tuple[Example, ...]
    budget: int
    max_tokens: int = 256
    seed: int = 0
    task: Literal["search"] = "search"


@dataclass(frozen=True)
class Weighting:
    """Weights of adapters, and the loss of their sum.

    Attributes
    ----------
    nats, held_out_nats
        Mean negative log-likelihood in nats per token of the completions that the search saw, and of those that it did
        not see; the last is None where there are none.
    """

    weights: tuple[float, ...]
    nats: float
    held_out_nats: float | None = None


@dataclass(frozen=True)
class FoundWeights:
    """Result of a search of weights: the best that it met, beside the base alone, equal weights, and each adapter."""

    found: Weighting
    base: Weighting
    equal: Weighting
    singles: tuple[Weighting, ...]
    tried: int

    @property
    def overfits(self) -> bool:
        """True if another weighting does better on what was held out; False without held-out examples."""
        others = [one.held_out_nats for one in (self.base, self.equal, *self.singles) if one.held_out_nats is not None]
        return self.found.held_out_nats is not None and any(self.found.held_out_nats > one for one in others)
