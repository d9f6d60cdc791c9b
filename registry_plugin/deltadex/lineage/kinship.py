"""Relation of two versions by their sketches: a test for a shared origin, what they share, and their order. Pure.

**Test.** peft draws the A of an adapter at random, symmetrically about 0, and B begins at 0. The sign of one
component, a row of A with its column of B, changes neither the update nor, under Adam or SGD, how it is trained. So
for two adapters with independent beginnings, the signs of the scalar products of their components are fair coins,
whatever base, domain, data and settings they share. That gives a p-value that holds for any number of components
(Chernoff's bound of a sum with random signs), and no threshold to tune. Full models have no random beginning of their
own: there the null is the largest correlation that independent trainings on one domain were seen to reach.

**Relation.** A shared origin may be a seed: two trainings that begin with the same A are no relatives. What a version
learned is its update; one that was trained on from another holds all of it. docs/lineage.md has what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deltadex.checkpoints.merge_check import ROUNDINGS
from deltadex.checkpoints.sketch import Sketch

#: Largest p-value, after correction for the number of comparisons, of a claimed origin.
SIGNIFICANT = 1e-3
#: Correlation of what independent trainings of all weights on one domain may learn: more than was measured.
UNRELATED_CORRELATION = 0.5
#: A version that goes on from another one holds its update: in each of four sizes of change the slope is at least this,
#: up to so many standard errors.
_BINS, _FEWEST_IN_BIN = 4, 16
_LEAST_SLOPE, _STANDARD_ERRORS = 0.85, 3.0
#: Largest slope of a later version, of adapters that began alike and of full models, and cosine of the updates from
#: which a larger one is accepted: trainings that were only longer had less in common.
_LARGEST_SLOPE, _LARGEST_SLOPE_OF_FULL = 1.25, 1.05
_LEAST_SHARED = 0.8
#: Relative step under which two versions are one, and their order is that of their rounding alone.
_SAME_STEP = 0.02
#: Share of weights that are exactly the rounded ones, of a rounded copy: the last digit of a sum may be lost.
_ROUNDED_SHARE = 0.99
#: Signs of weights that were quantized alike: a step between two models whose 98th percentile is so many medians; or so
#: many equal weights while the others differ by such a share. A step of bfloat16 is at most .008.
_LARGEST_TAIL, _EQUAL_SHARE, _QUANTIZED_STEP = 6.0, 0.2, 0.03
_SMALLEST_WEIGHT = 1e-12
_SMALLEST_P = 1e-300
_LAMBDAS = np.geomspace(1e-3, 1e3, 121)[:, None]


class Origin(StrEnum):
    """Relation of two versions of one origin."""

    TRAINED_ON = "trained on from"
    SAME = "same update"
    SHARED = "shared origin"


class First(StrEnum):
    """Which of two versions came first, from the weights alone."""

    ONE = "one"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Kinship:
    """Evidence that two versions have a shared origin.

    Attributes
    ----------
    shared
        Cosine similarity of their sampled updates: of what both learned.
    p
        Probability that versions of independent origin are so much alike, times the number of comparisons.
    by_factors
        True if the p-value is that of the random beginnings, False if it is that of the updates' correlation.
    """

    origin: Origin
    first: First
    shared: float
    p: float
    by_factors: bool


def kinship(one: Sketch, other: Sketch, *, comparisons: int = 1) -> Kinship | None:
    """Return the evidence for a shared origin of two versions; None if there is none, or if it cannot be told.

    Parameters
    ----------
    comparisons
        Number of versions that were compared, by which the p-value is multiplied.
    """
    if one.layout != other.layout:
        return None
    mine, its = aligned(one, other)
    if len(mine):
        p = independence(np.einsum("me,me->m", one.down[mine], other.down[its], dtype=np.float64)) * comparisons
        if p > SIGNIFICANT:
            return None
        return Kinship(*_learned(one, other, by_factors=True), min(1.0, p), by_factors=True)
    if _rounded_first(one, other) is First.UNKNOWN and quantized_alike(one, other):
        return None
    p = beyond(cosine(one.deltas, other.deltas), len(one.deltas)) * comparisons
    if p > SIGNIFICANT:
        return None
    origin, first, shared = _learned(one, other, by_factors=False)
    # Two trainings of all weights learn alike: that alone is no origin.
    return None if origin is Origin.SHARED else Kinship(origin, first, shared, p, by_factors=False)


def independence(products: NDArray[np.float64]) -> float:
    """Return a bound of the probability that fair signs give a sum of these numbers or a larger one.

    Parameters
    ----------
    products
        `(m,)`: numbers whose signs are fair coins under the null.
    """
    largest = float(np.abs(products).max(initial=0.0))
    total = float(products.sum())
    if total <= 0 or not math.isfinite(largest):
        return 1.0
    scaled = np.abs(products) / largest * _LAMBDAS
    # log cosh, without overflow
    logs = (scaled + np.log1p(np.exp(-2 * scaled)) - math.log(2)).sum(1) - total / largest * _LAMBDAS[:, 0]
    return max(math.exp(min(0.0, float(logs.min()))), _SMALLEST_P)


def beyond(correlation: float, count: int, *, null: float = UNRELATED_CORRELATION) -> float:
    """Return the probability that a sample correlates so much where all weights correlate by `null` (Fisher's z)."""
    if not math.isfinite(correlation) or count < 4:
        return 1.0
    at_most = 1 - 1e-9
    z = (math.atanh(min(correlation, at_most)) - math.atanh(null)) * math.sqrt(count - 3)
    return max(0.5 * math.erfc(z / math.sqrt(2)), _SMALLEST_P)


def cosine(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the cosine similarity of two arrays of one shape; 0 if one is all zeros."""
    mine, its = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    norms = float(np.linalg.norm(mine) * np.linalg.norm(its))
    return float(mine @ its) / norms if norms else 0.0


def aligned(one: Sketch, other: Sketch) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of the components of modules that two adapters have with the same rank."""
    if np.array_equal(one.modules, other.modules):
        return np.arange(len(one.modules)), np.arange(len(one.modules))
    ranks = [dict(zip(*np.unique(each.modules, return_counts=True), strict=True)) for each in (one, other)]
    common = [module for module, rank in ranks[0].items() if ranks[1].get(module) == rank]
    mine, its = (np.flatnonzero(np.isin(each.modules, common)) for each in (one, other))
    return mine, its


def quantized_alike(one: Sketch, other: Sketch) -> bool:
    """Return True if two full models look rounded to few bits: they then share the rounding of their base.

    Where they differ, most differ little or not at all, and some by a whole step of the rounding. A training moves
    weights more evenly: those of a Gaussian step have a ratio of 3.5, those of Adam less.
    """
    if one.is_adapter or other.is_adapter:
        return False
    changed = (one.deltas != 0) & (other.deltas != 0)
    steps = np.abs(one.weights - other.weights)[changed]
    moved = steps[steps > 0]
    if len(moved) < _FEWEST_IN_BIN:
        return False
    usual, large = np.quantile(moved, (0.5, 0.98))
    size = float(np.median(moved / np.maximum(np.abs(one.weights[changed][steps > 0]), _SMALLEST_WEIGHT)))
    is_coarse = len(moved) <= (1 - _EQUAL_SHARE) * len(steps) and size >= _QUANTIZED_STEP
    return bool(large >= _LARGEST_TAIL * usual) or is_coarse


def _learned(one: Sketch, other: Sketch, *, by_factors: bool) -> tuple[Origin, First, float]:
    """Return what two versions of one origin are to each other, by what both learned, and the cosine of that."""
    mine, its = one.deltas.astype(np.float64), other.deltas.astype(np.float64)
    shared, longest = cosine(mine, its), max(np.linalg.norm(mine), np.linalg.norm(its))
    if not longest or shared <= 0:
        return Origin.SHARED, First.UNKNOWN, shared
    rounded = _rounded_first(one, other)
    if rounded is not First.UNKNOWN or np.linalg.norm(mine - its) <= _SAME_STEP * longest:
        return Origin.SAME, rounded, shared
    largest = _LARGEST_SLOPE if by_factors else _LARGEST_SLOPE_OF_FULL
    both = [holds(*pair, largest=largest) for pair in ((mine, its), (its, mine))]
    if not any(both):
        return Origin.SHARED, First.UNKNOWN, shared
    # Where the step is small, each holds the other: the earlier one is shorter.
    first = _shorter(mine, its) if all(both) else First.ONE if both[0] else First.OTHER
    return Origin.TRAINED_ON, first, shared


def holds(earlier: NDArray[np.float64], later: NDArray[np.float64], *, largest: float = _LARGEST_SLOPE_OF_FULL) -> bool:
    """Return True if one update can hold all of another one, large and small changes alike.

    Training goes on from where it was, so the later update is the earlier one and a step. If the step has nothing in
    common with the earlier update, the regression of the later on the earlier has slope 1 in all sizes; if the step
    goes further the same way, more. A second training that only learned the same lacks what chance brought to the
    first one, and has slopes below 1, unless it went on for much longer; then its slope is large.

    Parameters
    ----------
    earlier, later
        `(n,)`: updates of the same base.
    largest
        Largest slope that needs no more in common.
    """
    sizes = np.abs(earlier)
    moved = sizes > 0
    edges = np.quantile(sizes[moved], np.linspace(0, 1, _BINS + 1)) if moved.any() else np.zeros(_BINS + 1)
    for low, high in pairwise(edges):
        within = moved & (sizes >= low) & (sizes <= high)
        if within.sum() < _FEWEST_IN_BIN:
            return False
        slope, error = _slope(earlier[within], later[within])
        if slope + _STANDARD_ERRORS * error < _LEAST_SLOPE:
            return False
    slope, error = _slope(earlier, later)
    is_beside = slope - _STANDARD_ERRORS * error <= largest
    return slope >= _LEAST_SLOPE and (is_beside or cosine(earlier, later) >= _LEAST_SHARED)


def _slope(known: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[float, float]:
    """Return the slope of a regression through 0, and its standard error."""
    length = float(known @ known)
    slope = float(known @ now) / length
    left = now - slope * known
    return slope, math.sqrt(float(left @ left) / len(known) / length)


def _shorter(one: NDArray[np.float64], other: NDArray[np.float64]) -> First:
    """Return which of two is shorter, by more than the error of the sample."""
    growth = other**2 - one**2
    if abs(float(growth.sum())) <= _STANDARD_ERRORS * float(growth.std()) * math.sqrt(len(growth)):
        return First.UNKNOWN
    return First.ONE if growth.sum() > 0 else First.OTHER


def _rounded_first(one: Sketch, other: Sketch) -> First:
    """Return which of two versions the other one is rounded from; unknown for adapters, equals and all else."""
    if one.is_adapter or other.is_adapter or np.array_equal(one.weights, other.weights):
        return First.UNKNOWN
    for round_ in ROUNDINGS.values():
        if np.mean(round_(one.weights) == other.weights) >= _ROUNDED_SHARE:
            return First.ONE
        if np.mean(round_(other.weights) == one.weights) >= _ROUNDED_SHARE:
            return First.OTHER
    return First.UNKNOWN
