"""Cosine similarity of embeddings of one recipe, with linkage and silhouettes based on it."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unit_vectors(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, d)` float64 rows of L2 norm 1; zero rows stay zero.

    Parameters
    ----------
    vectors
        `(n, d)`, finite.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    # Divide by the largest entry first: squares of tiny and of huge numbers leave the range of float64.
    rows = _divide(rows, np.abs(rows).max(axis=1, keepdims=True, initial=0))
    return _divide(rows, np.linalg.norm(rows, axis=1, keepdims=True))


def cosine_similarity(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return the `(n, n)` cosine similarities: symmetric, within [-1, 1], exactly 1 on the diagonal.

    Parameters
    ----------
    vectors
        `(n, d)`, finite. A zero vector has similarity 0 to every other one.
    """
    units = unit_vectors(vectors)
    similarity = np.clip(units @ units.T, -1.0, 1.0)
    similarity = (similarity + similarity.T) / 2
    np.fill_diagonal(similarity, 1.0)
    return similarity


def canonical_order(rows: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return an order of the rows that depends only on their content, and looks random.

    Linkage breaks ties by row order.
    """
    contents = [blake2b(row.tobytes(), digest_size=16).digest() for row in unit_vectors(rows) + 0.0]
    return np.array(sorted(range(len(rows)), key=contents.__getitem__), dtype=np.intp)


def average_linkage(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return SciPy's `(n - 1, 4)` linkage of `(n, n)` cosine similarities; heights are cosine distances."""
    # Importing SciPy takes a moment, and few callers need it.
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return np.asarray(linkage(squareform(1.0 - similarity, checks=False), method="average"), dtype=np.float64)


def cut_tree(tree: NDArray[np.float64], distance: float) -> NDArray[np.int64]:
    """Return `(n,)` group numbers, from 0, after cutting a linkage at this distance."""
    from scipy.cluster.hierarchy import fcluster

    return np.asarray(fcluster(tree, t=distance, criterion="distance"), dtype=np.int64) - 1


def similarity_sums(similarity: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return `(n, k)` sums of `(n, n)` similarities over the members of each group, numbered from 0."""
    sums: NDArray[np.float64] = similarity @ np.eye(labels.max(initial=-1) + 1)[labels]
    return sums


def silhouettes(sums: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return `(n,)` silhouettes on cosine distance (Rousseeuw 1987), 0 for a row that is alone in its group.

    Parameters
    ----------
    sums
        Result of `similarity_sums` for at least two groups, with a similarity of 1 on the diagonal.
    """
    rows, sizes = np.arange(len(labels)), np.bincount(labels)
    of_own, between = sizes[labels], sums / sizes
    between[rows, labels] = -np.inf
    apart = 1 - between.max(axis=1)
    within = 1 - (sums[rows, labels] - 1) / np.maximum(of_own - 1, 1)
    scale = np.maximum(apart, within)
    widths: NDArray[np.float64] = np.zeros(len(labels))
    np.divide(apart - within, scale, out=widths, where=(of_own > 1) & (scale > 0))
    return widths


def _divide(rows: NDArray[np.float64], divisors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(rows, divisors, out=np.zeros_like(rows), where=divisors > 0)


#: Minimum ratio of a delta to the noise; a weaker delta is too weak to place. With noise of a fifth of the delta, two
#: embeddings of one model have a similarity of 1 / (1 + 1 / 25) = .96, just above the near-duplicate threshold of .95.
NOISE_MARGIN = 5.0


def lowest_strength(minimum: float, noise_floor: float | None) -> float:
    """Return the strength below which a version is too weak to place.

    Parameters
    ----------
    minimum
        The lowest strength in any recipe.
    noise_floor
        See `deltadex.types.Embedding`; None if it was not measured.
    """
    return max(minimum, NOISE_MARGIN * (noise_floor or 0.0))


def noise_distance(one: ArrayLike, other: ArrayLike, noise_floor: float | None) -> NDArray[np.float64]:
    """Return the cosine distance that noise alone causes between embeddings of equal direction.

    In a high-dimensional space noise of length f is nearly orthogonal to a delta of length s. The noisy delta therefore
    has a similarity of 1 / sqrt(1 + (f / s)²) to the true one, and two noisy deltas the product of two such factors.

    Parameters
    ----------
    one, other
        Strengths; see `deltadex.types.Embedding`.
    """
    floor = noise_floor or 0.0
    first, second = (1 + np.square(_ratio(floor, np.asarray(each, dtype=np.float64))) for each in (one, other))
    distance: NDArray[np.float64] = 1 - 1 / np.sqrt(first * second)
    return distance


def _ratio(floor: float, strength: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(floor, strength, out=np.full_like(strength, np.inf if floor else 0.0), where=strength > 0)


def short_similarity(similarity: float) -> str:
    """Return a cosine similarity as sentences have it, such as `.97`."""
    return f"{similarity:.2f}".replace("0.", ".", 1)
