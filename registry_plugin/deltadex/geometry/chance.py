"""A measured number with its null distribution, and the refusal for too few models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Every draw is seeded: the same embeddings always give the same result.
SEED = 0
#: Results with a p-value up to this count as significant.
SIGNIFICANT = 0.05
_INTERVAL = (0.025, 0.5, 0.975)


@dataclass(frozen=True)
class Chance:
    """The null distribution of one number.

    Attributes
    ----------
    low, median, high
        The 2.5 %, 50 % and 97.5 % quantiles.
    draws
        Number of simulations.
    """

    low: float
    median: float
    high: float
    draws: int


@dataclass(frozen=True)
class NumberByChance:
    """One number and its null distribution.

    Attributes
    ----------
    p_value
        Share of draws at least as extreme, the number itself counted as one draw (Phipson and Smyth 2010): never 0.
    """

    value: float
    chance: Chance
    p_value: float


@dataclass(frozen=True)
class Refusal:
    """A question that cannot be answered yet.

    Attributes
    ----------
    question
        The question, as a phrase.
    noun
        The things that there are too few of, in the plural.
    count, needed
        Their number, and the number that an answer needs.
    """

    question: str
    noun: str
    count: int
    needed: int

    @property
    def meaning(self) -> str:
        """The refusal as a sentence."""
        return f"{self.question}: too early to say. It takes {self.needed} {self.noun}; there are {self.count}."


def measured(value: float, draws: ArrayLike) -> NumberByChance:
    """Return a number with its null distribution; large ones are extreme.

    Parameters
    ----------
    draws
        `(n,)` simulated values.
    """
    null = np.asarray(draws, dtype=np.float64)
    # A draw that equals the number counts as extreme, whatever its rounding.
    slack = 1e-12 * max(1.0, abs(value))
    extreme = null >= value - slack
    low, median, high = (float(bound) for bound in np.quantile(null, _INTERVAL))
    return NumberByChance(
        float(value), Chance(low, median, high, len(null)), float((1 + extreme.sum()) / (1 + len(null)))
    )


def generator() -> np.random.Generator:
    """Return a new generator with the fixed seed."""
    return np.random.default_rng(SEED)


def content_order(rows: NDArray[np.floating], *, names: list[str]) -> NDArray[np.intp]:
    """Return the order of rows by name, then by content, so that seeded draws do not depend on the order of rows.

    Parameters
    ----------
    rows, names
        `(n, d)`, and `n` names, which may repeat.
    """
    keys = [(name, (row + 0.0).tobytes()) for name, row in zip(names, rows, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)


def adjusted_for_their_number(p_values: Sequence[float]) -> list[float]:
    """Return p-values that control the false discovery rate of all of them (Benjamini and Hochberg)."""
    if not p_values:
        return []
    from scipy.stats import false_discovery_control  # large: the watcher, which only asks what is due, needs none

    return [float(value) for value in false_discovery_control(p_values)]
