"""Groups of models that do similar things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from deltadex.analysis.similarity import cosine_similarity, unit_vectors

#: With fewer models than this a cluster is only another word for a pair.
FEWEST_MODELS = 3
ALONE = -1


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the models, with what it rests on.

    Attributes
    ----------
    labels
        `(n,)` int: 0 is the largest cluster; -1 for a model that is alone.
    min_similarity
        Mean cosine similarity at which clusters were joined.
    silhouette
        Mean silhouette (cosine distance) of the models that are in a cluster; None with fewer than two clusters.
    note
        Why there are no clusters, where there are none because of too few models.
    """

    labels: NDArray[np.int64]
    min_similarity: float
    silhouette: float | None = None
    note: str = ""

    @property
    def count(self) -> int:
        """How many clusters there are, models that are alone not counted."""
        return int(self.labels.max(initial=ALONE)) + 1

    def members(self, label: int) -> list[int]:
        """Return the rows of one cluster."""
        return [int(row) for row in np.flatnonzero(self.labels == label)]


def cluster(vectors: ArrayLike, *, min_similarity: float) -> Clusters:
    """Join models by average linkage on cosine similarity until no two clusters are similar enough.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. The order of the rows changes the clusters' numbers at most.
    min_similarity
        Two clusters are joined where the mean cosine similarity between their models is at least this.
    """
    rows = np.asarray(vectors)
    if len(rows) < FEWEST_MODELS:
        note = f"Clusters need at least {FEWEST_MODELS} models; there {'is' if len(rows) == 1 else 'are'} {len(rows)}."
        return Clusters(np.full(len(rows), ALONE), min_similarity, note=note)
    order = _canonical_order(rows)
    distance = 1.0 - cosine_similarity(rows[order])
    tree = linkage(squareform(distance, checks=False), method="average")
    found = fcluster(tree, t=1.0 - min_similarity, criterion="distance")
    back = np.argsort(order)
    labels = _number_by_size(found[back])
    return Clusters(labels, min_similarity, silhouette=_silhouette(distance[np.ix_(back, back)], labels))


def _canonical_order(rows: NDArray[np.floating]) -> NDArray[np.intp]:
    """Linkage breaks ties by row order, so the rows are put into an order that only their content decides."""
    contents = [row.tobytes() for row in unit_vectors(rows) + 0.0]
    return np.array(sorted(range(len(rows)), key=contents.__getitem__), dtype=np.intp)


def _number_by_size(found: NDArray[np.integer]) -> NDArray[np.int64]:
    names, first, member_of, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    number = np.full(len(names), ALONE)
    ranked = [name for name in np.lexsort((first, -sizes)) if sizes[name] > 1]
    number[ranked] = np.arange(len(ranked))
    return number[member_of].astype(np.int64)


def _silhouette(distance: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    inside = np.flatnonzero(labels != ALONE)
    if labels.max(initial=ALONE) < 1:
        return None
    return float(silhouette_score(distance[np.ix_(inside, inside)], labels[inside], metric="precomputed"))
