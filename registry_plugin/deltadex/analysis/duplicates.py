"""Which models are, or nearly are, the same one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deltadex.analysis.similarity import unit_vectors

#: Rows compared at a time with all others: bounds memory at a few hundred MB for 100,000 rows.
_BLOCK = 256


@dataclass(frozen=True, order=True)
class Pair:
    """Two rows, `first < second`, and their cosine similarity."""

    first: int
    second: int
    similarity: float


def near_duplicate_pairs(vectors: ArrayLike, threshold: float) -> list[Pair]:
    """Return every pair of rows whose cosine similarity is at least `threshold`, in row order.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    threshold
        Cosine similarity in [-1, 1].
    """
    return [pair for pairs in _pairs_by_block(vectors, threshold) for pair in pairs]


def connected_groups(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Return the connected components of `pairs`: each sorted, in order of their smallest id.

    The order in which pairs arrive, and the order within a pair, never change the result.
    """
    group_of: dict[int, set[int]] = {}
    for one, other in pairs:
        joined = group_of.get(one, {one}) | group_of.get(other, {other})
        group_of.update(dict.fromkeys(joined, joined))
    return tuple(sorted({tuple(sorted(group)) for group in group_of.values() if len(group) > 1}))


def duplicate_groups(ids: Sequence[int], pairs: Iterable[Pair]) -> tuple[tuple[int, ...], ...]:
    """Return groups of `ids` whose rows are connected by `pairs`; `ids[row]` names a row of the vectors."""
    return connected_groups((ids[pair.first], ids[pair.second]) for pair in pairs)


def _pairs_by_block(vectors: ArrayLike, threshold: float) -> Iterator[list[Pair]]:
    units = unit_vectors(vectors)
    for start in range(0, len(units), _BLOCK):
        similarity = np.clip(units[start : start + _BLOCK] @ units[start:].T, -1.0, 1.0)
        rows, columns = np.nonzero(np.triu(similarity >= threshold, k=1))
        yield [
            Pair(start + int(row), start + int(column), float(similarity[row, column]))
            for row, column in zip(rows, columns, strict=True)
        ]
