"""Statistics of a replay: how far the answers of two models agree, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltadex.engine.text_requests import Replies, TokenIds

#: Fewer prompts show little; the verdict says so.
ENOUGH_PROMPTS = 100
#: Measured by `python -m benchmarks.replay`: see docs/reviews.md.
CAVEAT = (
    "Read the gap first. Greedy answers part at near ties: an adapter and its own merge, rounded to bfloat16, gave the "
    "same answer to about half of our prompts at a gap of 0.00, another seed to a twelfth at 0.09."
)
#: Standard normal quantile of a two-sided 95 % interval.
_Z = 1.959964
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of two models over the same prompts.

    Attributes
    ----------
    equal
        Share of prompts to which both give the same answer, token by token.
    common_start
        Mean share of an answer's tokens before the first difference, of the longer answer.
    gap
        Mean log-likelihood (nats per token) that an answer loses when the other model judges it, over both directions.
        0 for equal models.
    cut
        Number of prompts that were too long, and were read from their end only.
    """

    prompts: int
    equal: Estimate
    common_start: Estimate
    gap: Estimate
    cut: int = 0

    @classmethod
    def of(cls, replies: Replies) -> Agreement:
        """Measure the agreement of two models' replies."""
        first, second = replies.tokens
        shared = np.array([_common_start(*pair) for pair in zip(first, second, strict=True)])
        (own, others), (of_first, of_second) = np.array(replies.likelihoods)
        gaps = ((own - of_first) + (of_second - others)) / 2
        equal = wilson(int((shared == 1).sum()), len(shared))
        return cls(len(shared), equal, bootstrap(shared), bootstrap(gaps), replies.cut)

    @property
    def is_enough(self) -> bool:
        """True if there were as many prompts as a decision needs."""
        return self.prompts >= ENOUGH_PROMPTS

    @property
    def verdict(self) -> str:
        """Sentences for the person who decides."""
        equal, gap = self.equal, self.gap
        said = [
            f"Both give the same answer to {round(equal.value * self.prompts):,} of {self.prompts:,} prompts "
            f"({equal.value:.0%}; 95% interval {equal.low:.0%} to {equal.high:.0%}).",
            f"On average the first {self.common_start.value:.0%} of an answer is equal, and the other model finds the "
            f"answer {_nats(gap.value)} nats per token less likely ({_nats(gap.low)} to {_nats(gap.high)}).",
        ]
        if not self.is_enough:
            said.append(
                f"{self.prompts:,} prompts show little: the interval is {equal.high - equal.low:.0%} wide. Use at "
                f"least {ENOUGH_PROMPTS}."
            )
        if self.cut:
            said.append(f"Prompts so long that only their end was read: {self.cut:,}.")
        return " ".join(said)


def wilson(successes: int, trials: int) -> Estimate:
    """Return a share with its Wilson score interval (Wilson 1927), which is sound near 0 and 1 and for few trials."""
    share, spread = successes / trials, _Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # Rounding must not put the share itself outside.
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def bootstrap(values: NDArray[np.floating[Any]]) -> Estimate:
    """Return the mean of `(n,)` values with its percentile bootstrap interval, drawn with a fixed seed."""
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def _nats(value: float) -> str:
    """Return a log-likelihood for a person; rounding in a model's own dtype makes it a little less than zero."""
    return f"{round(value, 2) + 0.0:.2f}"  # -0.0 + 0.0 is 0.0


def _common_start(one: TokenIds, other: TokenIds) -> float:
    """Return the share of tokens before the first difference, of the longer answer; 1 only for equal answers."""
    longer = max(len(one), len(other))
    pairs: Sequence[tuple[int, int]] = list(zip(one, other, strict=False))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs)) / longer
