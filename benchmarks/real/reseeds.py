"""Telling reseeds from other finetunes of their domain: by similarity, on a local scale, or by rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.real.scores import Asked, Matrix, same_text

#: Neighbours whose mean similarity is a model's local scale.
_NEIGHBORS = 5
_RECALL = 0.9


@dataclass(frozen=True)
class Told:
    """Reseed pairs beside all other pairs.

    Attributes
    ----------
    area
        Probability that a reseed pair scores higher than another pair of its domain.
    false
        Other pairs that reach the score that nine of ten reseed pairs reach.
    """

    area: float
    false: int
    reseeds: int
    others: int


def told_apart(asked: Asked) -> Mapping[str, Told]:
    """Return how well each score tells reseed pairs from others, for the models that were trained alike."""
    chosen = np.flatnonzero(asked.pool("splits", "reseeds"))
    models, similarity = [asked.models[each] for each in chosen], asked.similarity[np.ix_(chosen, chosen)]
    one, other = np.triu_indices(len(chosen), 1)
    is_reseed = np.array([same_text(models[a], models[b]) for a, b in zip(one, other, strict=True)], dtype=bool)
    is_close = np.array([models[a].domain == models[b].domain for a, b in zip(one, other, strict=True)], dtype=bool)
    return {
        name: _told(score[one, other], is_reseed, is_close)
        for name, score in {
            "similarity": similarity,
            "local scale": _local(similarity),
            "rank": _ranked(similarity),
        }.items()
    }


def _told(score: NDArray[np.float64], is_reseed: NDArray[np.bool_], is_close: NDArray[np.bool_]) -> Told:
    if not is_reseed.any():
        return Told(float("nan"), 0, 0, len(score))
    area = float(roc_auc_score(is_reseed[is_close], score[is_close]))
    limit = np.quantile(score[is_reseed], 1 - _RECALL)
    others = score[~is_reseed]
    return Told(area, int((others >= limit).sum()), int(is_reseed.sum()), len(others))


def _local(similarity: Matrix) -> Matrix:
    """Return the similarity less the mean of both models' local scales (CSLS, arXiv 1710.04087)."""
    apart = similarity - 3 * np.eye(len(similarity))
    scale = np.sort(apart, axis=1)[:, -_NEIGHBORS:].mean(axis=1)
    return similarity - (scale[:, None] + scale[None]) / 2


def _ranked(similarity: Matrix) -> Matrix:
    """Return the worse of both ranks among each other's neighbours, negative; ties by the similarity."""
    apart = similarity - 3 * np.eye(len(similarity))
    ranks = np.argsort(np.argsort(-apart, axis=1), axis=1)
    return -np.maximum(ranks, ranks.T) + (similarity - 1) / 3
