"""How well similarities tell domains apart. Pure: knows similarities and labels, not where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """What one kind of similarity is worth on one pool.

    Attributes
    ----------
    silhouette, error
        Mean over the models on cosine distance, and its jackknife standard error over the models.
    accuracy
        Share of models whose nearest other model has their domain.
    average_precision
        Of the pairs, ranked by similarity, with `truth`.
    precision, recall
        Of the pairs at the threshold that was given; no precision where no pair reaches it.
    """

    silhouette: float
    error: float
    accuracy: float
    average_precision: float
    precision: float | None
    recall: float


def score(similarity: Matrix, labels: Sequence[str], *, threshold: float, comparable: Mask | None = None) -> Score:
    """Score `(n, n)` similarities; row i may be seen from model i's own standpoint, as when it was left out.

    Parameters
    ----------
    threshold
        Pairs at least this similar are called duplicates: two of one domain are right, two of others wrong.
    comparable
        `(n, n)`: neighbours and pairs that count; all others by default. A model without any is left out.
    """
    others = ~np.eye(len(labels), dtype=bool) if comparable is None else comparable
    same = np.equal.outer(np.asarray(labels), np.asarray(labels))
    pairs = np.triu(others | others.T, 1)
    both = ((similarity + similarity.T) / 2)[pairs]
    called, truth = both >= threshold, same[pairs]
    return Score(
        silhouette=float(silhouettes(similarity, labels).mean()),
        error=jackknife_error(similarity, labels),
        accuracy=nearest_accuracy(similarity, same, others),
        average_precision=float(average_precision_score(truth, both)),
        precision=float(truth[called].mean()) if called.any() else None,
        recall=float(called[truth].mean()),
    )


def silhouettes(similarity: Matrix, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return `(n,)` silhouettes on `1 - similarity`; 0 for a model that is alone with its label."""
    distance, names = 1 - similarity, np.asarray(labels)
    groups = np.unique(names)
    members = np.stack([names == group for group in groups], axis=1).astype(float)
    own = names[:, None] == groups
    sums, sizes = (distance * ~np.eye(len(names), dtype=bool)) @ members, members.sum(0)
    mates = np.maximum(sizes - 1, 1)
    inside = (sums / mates)[own]
    outside = np.where(own, np.inf, sums / sizes).min(1)
    alone = (own * (sizes == 1)).any(1)
    widest = np.maximum(np.maximum(inside, outside), np.finfo(float).tiny)
    return np.where(alone, 0.0, (outside - inside) / widest)


def jackknife_error(similarity: Matrix, labels: Sequence[str], *, less: Matrix | None = None) -> float:
    """Return the standard error of the mean silhouette: how it varies when each model in turn is missing.

    Parameters
    ----------
    less
        `(n, n)` other similarities: then of the difference to their mean silhouette.
    """
    count, names = len(labels), np.asarray(labels)
    means = []
    for number in range(count):
        kept = np.delete(np.arange(count), number)
        found = silhouettes(similarity[np.ix_(kept, kept)], list(names[kept])).mean()
        means.append(found - (0 if less is None else silhouettes(less[np.ix_(kept, kept)], list(names[kept])).mean()))
    return float(np.sqrt((count - 1) * np.var(means)))


def nearest_accuracy(similarity: Matrix, same: Mask, others: Mask) -> float:
    """Return the share of models whose nearest of `others` is of the `same` label, where one could be."""
    possible = (others & same).any(1)
    nearest = np.where(others, similarity, -np.inf).argmax(1)
    return float(same[np.arange(len(same)), nearest][possible].mean())


def best_threshold(similarity: Matrix, truth: Mask) -> float:
    """Return the similarity at which calling a pair true has the highest F1 score."""
    pairs = np.triu(np.ones_like(truth), 1).astype(bool)
    precision, recall, thresholds = precision_recall_curve(truth[pairs], similarity[pairs])
    both = np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[(2 * precision * recall / both)[:-1].argmax()])
