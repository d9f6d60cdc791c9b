"""Scores of similarities as a measure of domains. Pure functions of similarities and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from deltadex import vectors

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Scores of one kind of similarity on one pool.

    Attributes
    ----------
    silhouette, error
        Mean over the models on cosine distance, and its jackknife standard error over the models.
    accuracy
        Share of models whose nearest other model has their domain.
    average_precision
        Of pairs ranked by similarity, where pairs of one domain are the true ones.
    precision, recall
        Of pairs at the threshold; the precision is None if no pair reaches it.
    """

    silhouette: float
    error: float
    accuracy: float
    average_precision: float
    precision: float | None
    recall: float


def score(similarity: Matrix, labels: Sequence[str], *, threshold: float, comparable: Mask | None = None) -> Score:
    """Score `(n, n)` similarities. They need not be symmetric: row i may be computed with model i left out.

    Parameters
    ----------
    threshold
        Minimum similarity of predicted duplicates; pairs of one domain are true, other pairs are false.
    comparable
        `(n, n)`: neighbours and pairs that count, by default all other models. A model without any is left out.
    """
    others = ~np.eye(len(labels), dtype=bool) if comparable is None else comparable
    same = np.equal.outer(np.asarray(labels), np.asarray(labels))
    pairs = np.triu(others | others.T, 1)
    symmetric = ((similarity + similarity.T) / 2)[pairs]
    predicted, truth = symmetric >= threshold, same[pairs]
    return Score(
        silhouette=float(silhouettes(similarity, labels).mean()),
        error=jackknife_error(similarity, labels),
        accuracy=nearest_accuracy(similarity, same, others),
        average_precision=float(average_precision_score(truth, symmetric)),
        precision=float(truth[predicted].mean()) if predicted.any() else None,
        recall=float(predicted[truth].mean()),
    )


def silhouettes(similarity: Matrix, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return `(n,)` silhouettes on `1 - similarity`; 0 for a model that is alone with its label."""
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1]
    # With a model left out, its similarity with itself can have any value.
    own = np.where(np.eye(len(numbers), dtype=bool), 1.0, similarity)
    return vectors.silhouettes(vectors.similarity_sums(own, numbers), numbers)


def jackknife_error(similarity: Matrix, labels: Sequence[str], *, less: Matrix | None = None) -> float:
    """Return the jackknife standard error over the models of the mean silhouette.

    Parameters
    ----------
    less
        `(n, n)` other similarities; with these, the error of the difference to their mean silhouette.
    """
    count, names = len(labels), np.asarray(labels)
    means = []
    for number in range(count):
        rest = np.delete(np.arange(count), number)
        mean = silhouettes(similarity[np.ix_(rest, rest)], list(names[rest])).mean()
        means.append(mean - (0 if less is None else silhouettes(less[np.ix_(rest, rest)], list(names[rest])).mean()))
    return float(np.sqrt((count - 1) * np.var(means)))


def nearest_accuracy(similarity: Matrix, same: Mask, others: Mask) -> float:
    """Return the share of models whose nearest of `others` has the same label, if one of them has it."""
    possible = (others & same).any(1)
    nearest = np.where(others, similarity, -np.inf).argmax(1)
    return float(same[np.arange(len(same)), nearest][possible].mean())


def best_threshold(similarity: Matrix, truth: Mask) -> float:
    """Return the similarity threshold with the highest F1 score for true pairs."""
    pairs = np.triu(np.ones_like(truth), 1).astype(bool)
    precision, recall, thresholds = precision_recall_curve(truth[pairs], similarity[pairs])
    total = np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[(2 * precision * recall / total)[:-1].argmax()])
