"""Prediction of a merge's embedding from its parents', by additivity (arXiv 2509.04442). Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.vectors import cosine_similarity


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predicted embedding of a merge.

    Attributes
    ----------
    vector
        `(dimension,)` float64: the weighted sum of the parents' embeddings.
    to_parents
        Its cosine similarity to each parent.
    kept
        Share of each parent's own embedding that the sum holds: its projection onto that embedding, divided by the
        length of the embedding. 1 for a merge that moves as far as the parent in the parent's direction.
    similarity
        `(n, n)` cosine similarities of the parents.
    """

    vector: NDArray[np.float64]
    to_parents: tuple[float, ...]
    kept: tuple[float, ...]
    similarity: NDArray[np.float64]

    @property
    def pairs(self) -> tuple[float, ...]:
        """Cosine similarity of each pair of parents."""
        return tuple(float(self.similarity[pair]) for pair in combinations(range(len(self.similarity)), 2))


def predict(vectors: ArrayLike, weights: Sequence[float]) -> Prediction:
    """Predict a merge's embedding.

    Parameters
    ----------
    vectors
        `(n, dimension)`: embeddings of the parents under one recipe, not normalised and none of them zero.
    weights
        One for each parent. Only their ratios and signs count for the direction.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    total = np.asarray(weights, dtype=np.float64) @ rows
    similarity = cosine_similarity(np.vstack([rows, total]))
    return Prediction(
        total,
        tuple(map(float, similarity[-1, :-1])),
        tuple(map(float, rows @ total / np.square(rows).sum(axis=1))),
        similarity[:-1, :-1],
    )
