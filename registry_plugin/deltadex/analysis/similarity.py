"""Cosine similarity: higher is closer. The one measure in which embeddings of one recipe are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unit_vectors(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, d)` float64 rows of L2 norm 1; a zero row stays zero.

    Parameters
    ----------
    vectors
        `(n, d)`, finite.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    # By the largest entry first: squares of tiny and of huge numbers leave float64's range.
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


def _divide(rows: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(rows, by, out=np.zeros_like(rows), where=by > 0)
