"""A number beside what chance gives, and what is said where there are too few models for one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Every draw is seeded: the same embeddings always give the same answer.
SEED = 0
#: A p-value up to this is more than chance.
SIGNIFICANT = 0.05
_INTERVAL = (0.025, 0.5, 0.975)


@dataclass(frozen=True)
class Chance:
    """The null distribution of one number.

    Attributes
    ----------
    low, median, high
        Its 2.5 %, 50 % and 97.5 % quantiles.
    draws
        How often it was simulated.
    """

    low: float
    median: float
    high: float
    draws: int


@dataclass(frozen=True)
class Measured:
    """One number and what chance gives in its place.

    Attributes
    ----------
    p_value
        Share of draws at least as extreme, the number itself counted as one (Phipson and Smyth 2010): never 0.
    """

    value: float
    chance: Chance
    p_value: float

    @property
    def is_found(self) -> bool:
        """Whether chance alone would hardly give it; says nothing about its size."""
        return self.p_value <= SIGNIFICANT


@dataclass(frozen=True)
class Refusal:
    """A question that has no answer yet.

    Attributes
    ----------
    question
        What was asked.
    what
        What there are too few of, in the plural.
    count, needed
        How many there are, and from how many on there is an answer.
    """

    question: str
    what: str
    count: int
    needed: int

    @property
    def meaning(self) -> str:
        """Say it in a sentence."""
        return f"{self.question}: too early to say. It takes {self.needed} {self.what}; there are {self.count}."


def measured(value: float, draws: ArrayLike, *, larger: bool = True) -> Measured:
    """Put a number beside its null distribution.

    Parameters
    ----------
    draws
        `(n,)`: what chance gave.
    larger
        Whether larger numbers are the extreme ones.
    """
    null = np.asarray(draws, dtype=np.float64)
    # Rounding must not decide where a draw repeats the number exactly.
    slack = 1e-12 * max(1.0, abs(value))
    extreme = null >= value - slack if larger else null <= value + slack
    low, median, high = (float(bound) for bound in np.quantile(null, _INTERVAL))
    return Measured(float(value), Chance(low, median, high, len(null)), float((1 + extreme.sum()) / (1 + len(null))))


def generator() -> np.random.Generator:
    """Return a fresh source of the seeded draws."""
    return np.random.default_rng(SEED)


def content_order(rows: NDArray[np.floating], *, names: list[str]) -> NDArray[np.intp]:
    """Return an order that names, then contents decide, so that the rows' own order never meets the seeded draws.

    Parameters
    ----------
    rows, names
        `(n, d)`, and `n` names, which may repeat.
    """
    keys = [(name, (row + 0.0).tobytes()) for name, row in zip(names, rows, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)
