"""Similar pairs of models, and their connected components."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from deltadex.duplicates.all_pairs import PAIR, Pairs
from deltadex.vectors import unit_vectors

#: Number of rows compared with all others at a time; limits memory to a few hundred MB for 100,000 rows.
_BLOCK = 256


def similar_pairs(vectors: ArrayLike, threshold: float) -> Pairs:
    """Return all pairs of rows with at least this cosine similarity, of dtype `PAIR`, in row order.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    threshold
        Cosine similarity in [-1, 1].
    """
    return np.concatenate([np.empty(0, PAIR), *_pairs_by_block(vectors, threshold)])


def connected_groups(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Return the connected components of `pairs`, each sorted, in order of their smallest id.

    The result does not depend on the order of the pairs, or on the order within a pair.
    """
    edges = np.array([*pairs], dtype=np.int64).reshape(-1, 2)
    ids, nodes = np.unique(edges, return_inverse=True)
    one, other = nodes.reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (one, other)), shape=(len(ids), len(ids)))
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for id_, label in zip(ids.tolist(), component.tolist(), strict=True):
        groups[label].append(id_)
    return tuple(sorted(tuple(group) for group in groups.values() if len(group) > 1))


def _pairs_by_block(vectors: ArrayLike, threshold: float) -> Iterator[Pairs]:
    units = unit_vectors(vectors)
    for start in range(0, len(units), _BLOCK):
        similarity = np.clip(units[start : start + _BLOCK] @ units[start:].T, -1.0, 1.0)
        rows, columns = np.nonzero(np.triu(similarity >= threshold, k=1))
        pairs = np.empty(len(rows), PAIR)
        pairs["first"], pairs["second"], pairs["similarity"] = rows + start, columns + start, similarity[rows, columns]
        yield pairs
