"""Versions that one version is merged from, by their sketches. Pure.

A merge is a sum of its parents with non-negative weights: of their updates (full models; `cat` and `svd` of adapters),
or of their factors (`linear`, `ties`, `dare` of adapters, which add up A and B apart).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.checkpoints.sketch import Sketch
from deltadex.lineage.kinship import SIGNIFICANT, aligned, cosine, independence, quantized_alike

#: Most parents that are looked for, and the least weight of one, as a share of the largest.
_MOST_PARENTS, _LEAST_WEIGHT = 6, 0.1
#: Share of the squared length that the parents of any merge explain, and those of a plain sum, up to rounding.
LEAST_EXPLAINED, PLAIN_SUM = 0.35, 0.98
#: Least share of what is still unexplained that each further parent must explain.
_LEAST_GAIN = 0.1
#: Correlation of the updates of two versions that may be parents of one merge without it being a plain sum.
_UNRELATED, _UNRELATED_FULL = 0.2, 0.3
#: Related candidates that are left out one after the other.
_MOST_DROPPED = 12


@dataclass(frozen=True)
class MergedFrom:
    """The parents of a merge.

    Attributes
    ----------
    weights
        Weight of each parent, by its id, largest first; they are relative, and sum to 1.
    explained
        Share of the merge's squared length that the weighted sum of the parents explains.
    p
        Largest p-value of a parent, by the factors' random beginnings; None if the parents were found by their updates.
    """

    weights: Mapping[int, float]
    explained: float
    p: float | None


def merged_from(target: Sketch, candidates: Mapping[int, Sketch], *, comparisons: int) -> MergedFrom | None:
    """Return the parents of a version among candidates of its layout; None if it is no merge of two or more.

    Parameters
    ----------
    comparisons
        Number of versions that were compared, by which p-values are multiplied.
    """
    return _by_factors(target, candidates, comparisons) or _by_updates(target, candidates)


def _by_factors(target: Sketch, candidates: Mapping[int, Sketch], comparisons: int) -> MergedFrom | None:
    """Return parents whose random beginnings are in the target's A."""
    if not target.is_adapter:
        return None
    p_values = {}
    for number, one in candidates.items():
        mine, its = aligned(target, one)
        if len(mine) == len(target.modules):
            p = comparisons * independence(np.einsum("me,me->m", target.down[mine], one.down[its], dtype=np.float64))
            if p <= SIGNIFICANT:
                p_values[number] = p
    if len(p_values) < 2:
        return None
    rows = {number: _factors(candidates[number], target) for number in p_values}
    found = _independent_sum(
        _factors(target, target), rows, lambda one, other: _is_kin(candidates[one], candidates[other])
    )
    if found is None:
        return None
    weights, explained = found
    return MergedFrom(weights, explained, max(p_values[number] for number in weights))


def _factors(one: Sketch, unit: Sketch) -> NDArray[np.float64]:
    """Return A and B in a row, each in the length of the target's."""
    parts = [mine.ravel() / (np.linalg.norm(its) or 1.0) for mine, its in ((one.down, unit.down), (one.up, unit.up))]
    return np.concatenate(parts).astype(np.float64)


def _is_kin(one: Sketch, other: Sketch) -> bool:
    mine, its = aligned(one, other)
    products = np.einsum("me,me->m", one.down[mine], other.down[its], dtype=np.float64)
    return independence(products) <= SIGNIFICANT


def _by_updates(target: Sketch, candidates: Mapping[int, Sketch]) -> MergedFrom | None:
    """Return parents whose updates sum up to the target's."""
    limit = _UNRELATED if target.is_adapter else _UNRELATED_FULL
    usable = {number: one for number, one in candidates.items() if not quantized_alike(one, target)}
    rows = {number: one.deltas.astype(np.float64) for number, one in usable.items()}
    found = _independent_sum(
        target.deltas.astype(np.float64), rows, lambda one, other: cosine(rows[one], rows[other]) > limit
    )
    return None if found is None or found[1] < LEAST_EXPLAINED else MergedFrom(*found, None)


def _independent_sum(
    target: NDArray[np.float64],
    rows: Mapping[int, NDArray[np.float64]],
    is_related: Callable[[int, int], bool],
) -> tuple[dict[int, float], float] | None:
    """Return weights and explained share of a sum of unrelated rows, or of any if it explains all but rounding.

    A version is between its parent and its child, too: related rows show no merge. What explains the target alone goes
    first, and of related ones that with the most relatives: either may be a merge of the same parents.
    """
    left = dict(rows)
    for _ in range(_MOST_DROPPED):
        found = _greedy(target, left)
        if found is None:
            return None
        chosen = list(found[0])
        related = {one for one in chosen if any(one != other and is_related(one, other) for other in chosen)}
        if len(chosen) > 1 and (found[1] >= PLAIN_SUM or not related):
            return found
        relatives = {one: sum(is_related(one, other) for other in left if other != one) for one in related or chosen}
        del left[max(relatives, key=lambda one: relatives[one])]
    return None


def _greedy(
    target: NDArray[np.float64], rows: Mapping[int, NDArray[np.float64]]
) -> tuple[dict[int, float], float] | None:
    """Return the weights of the few rows whose non-negative sum explains the target best, and how much it explains.

    One row is added at a time: the one that correlates most with what is left.
    """
    from scipy.optimize import nnls  # takes longer to import than most commands run

    length = float(target @ target)
    if not length or len(rows) < 2:
        return None
    numbers = list(rows)
    matrix = np.stack([rows[number] for number in numbers], axis=1)
    norms = np.linalg.norm(matrix, axis=0)
    matrix = matrix[:, norms > 0] / norms[norms > 0]
    numbers = [number for number, norm in zip(numbers, norms, strict=True) if norm > 0]
    chosen: list[int] = []
    weights, left = np.empty(0), target
    for _ in range(min(_MOST_PARENTS, len(numbers))):
        scores = matrix.T @ left
        scores[chosen] = -np.inf
        best = int(np.argmax(scores))
        if scores[best] <= 0:
            break
        tried, residual = nnls(matrix[:, [*chosen, best]], target)
        if tried[-1] < _LEAST_WEIGHT * tried.max() or residual**2 > (1 - _LEAST_GAIN) * float(left @ left):
            break
        chosen, weights = [*chosen, best], tried
        left = target - matrix[:, chosen] @ weights
    kept = [(numbers[place], float(weight)) for place, weight in zip(chosen, weights, strict=True) if weight > 0]
    if not kept:
        return None
    scaled = {number: weight / float(np.linalg.norm(rows[number])) for number, weight in kept}
    total = sum(scaled.values())
    ordered = sorted(scaled.items(), key=lambda item: -item[1])
    return {number: weight / total for number, weight in ordered}, 1 - float(left @ left) / length
