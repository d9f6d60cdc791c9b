"""Groups of models that do similar things.

Average linkage on cosine similarity, cut where the mean silhouette is highest (Rousseeuw 1987). The similarity at which
models are "one domain" differs between bases and pools, so no fixed cut serves: see `benchmarks.clusters`, by which the
method was chosen. Rows that are in no cluster stay alone: an outlier is no cluster.

Beyond `AT_ONCE` models the tree is made of as many, chosen by a hash of their vectors, and cut as above; every other
model joins the cluster with whose members it has the highest mean similarity, which is the criterion of average
linkage, if that is at least the cut. What joins none goes through the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from deltadex.analysis.similarity import cosine_similarity, unit_vectors

#: With fewer models than this a cluster is only another word for a pair.
FEWEST_MODELS = 3
ALONE = -1
#: Models whose similarities are all computed: 0.3 GB. Of 10,000 synthetic vectors the clusters agreed as well with the
#: truth by 2,000 as by 5,000 (adjusted mutual information .997 and .994), in an eighth of the time.
AT_ONCE = 3_000
#: A lower mean silhouette means "no substantial structure" (Kaufman and Rousseeuw 1990).
LEAST_SILHOUETTE = 0.25

#: The previous cut stays where its silhouette is at most this much below the best one.
KEPT_WITHIN = 0.02

#: Cuts that are tried, from the setting up: members of a tighter cluster are near duplicates.
_TIGHTEST, _STEP = 0.95, 0.01
_CHUNK = 4_096


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the models, with what it rests on.

    Attributes
    ----------
    labels
        `(n,)` int: 0 is the largest cluster; -1 for a model that is alone.
    strengths
        `(n,)` float64: how strongly a model belongs to its cluster, as the mean cosine similarity with the other
        members; NaN for a model that is alone.
    cut
        Mean cosine similarity at which clusters were joined.
    silhouette
        Mean silhouette (cosine distance; 0 for a model that is alone) at the cut; None with fewer than two clusters.
        Of the first `AT_ONCE` models where there are more.
    note
        Why there are no clusters, or why the models were not divided.
    """

    labels: NDArray[np.int64]
    strengths: NDArray[np.float64]
    cut: float
    silhouette: float | None = None
    note: str = ""

    @property
    def count(self) -> int:
        """How many clusters there are, models that are alone not counted."""
        return int(self.labels.max(initial=ALONE)) + 1

    def members(self, label: int) -> list[int]:
        """Return the rows of one cluster."""
        return [int(row) for row in np.flatnonzero(self.labels == label)]


def cluster(
    vectors: ArrayLike, *, min_similarity: float, previous_cut: float | None = None, at_once: int = AT_ONCE
) -> Clusters:
    """Divide models into groups that do similar things, and those that are like no other.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. The order of the rows changes the clusters' numbers at most.
    min_similarity
        Two clusters are never joined where the mean cosine similarity between their models is less.
    previous_cut
        That of the previous run: of two levels of one hierarchy that divide about as well, the same is taken again.
    at_once
        As `AT_ONCE`.
    """
    rows = np.asarray(vectors)
    if len(rows) < FEWEST_MODELS:
        note = f"Clusters need at least {FEWEST_MODELS} models; there {'is' if len(rows) == 1 else 'are'} {len(rows)}."
        return Clusters(np.full(len(rows), ALONE), np.full(len(rows), np.nan), min_similarity, note=note)
    order = canonical_order(rows)
    units = unit_vectors(rows[order]).astype(np.float32)
    similarity = cosine_similarity(units[:at_once])
    tree = average_linkage(similarity)
    cut, silhouette = _best_cut(similarity, tree, min_similarity, previous_cut)
    note = ""
    if silhouette < LEAST_SILHOUETTE - KEPT_WITHIN * (cut == previous_cut):
        note = f"No division of these models stands out: the best has a silhouette of {silhouette:.2f}."
        cut = min_similarity
    found = _joined(units, _cut_at(tree, cut), cut, at_once)
    back = np.argsort(order)
    labels = _number_by_size(found[back])
    several = labels.max() > 0
    return Clusters(labels, _strengths(units[back], labels), cut, silhouette if several else None, note)


def canonical_order(rows: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return an order that only the rows' content decides: linkage breaks ties by order, and a sample needs chance."""
    contents = [blake2b(row.tobytes(), digest_size=16).digest() for row in unit_vectors(rows) + 0.0]
    return np.array(sorted(range(len(rows)), key=contents.__getitem__), dtype=np.intp)


def average_linkage(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return SciPy's `(n - 1, 4)` linkage of `(n, n)` cosine similarities; heights are cosine distances."""
    return np.asarray(linkage(squareform(1.0 - similarity, checks=False), method="average"), dtype=np.float64)


def _cut_at(tree: NDArray[np.float64], similarity: float) -> NDArray[np.int64]:
    """Return the `(n,)` cluster numbers, from 0, where no join is less similar than this."""
    return np.asarray(fcluster(tree, t=1.0 - similarity, criterion="distance"), dtype=np.int64) - 1


def _best_cut(
    similarity: NDArray[np.float64], tree: NDArray[np.float64], min_similarity: float, previous: float | None
) -> tuple[float, float]:
    """Return the cut with the highest mean silhouette, and that; the middle one of several that divide alike."""
    # Whole steps below the tightest, whatever the setting: the previous cut must be among them.
    steps = max(0, int((_TIGHTEST - min_similarity) / _STEP + 1e-9))
    cuts = np.round(_TIGHTEST - _STEP * np.arange(steps + 1), 2) if min_similarity <= _TIGHTEST else [min_similarity]
    scores = np.array(list(_silhouettes(similarity, tree, cuts)))
    for number, cut in enumerate(cuts):
        if cut == previous and scores[number] >= scores.max() - KEPT_WITHIN:
            return float(cut), float(scores[number])
    best = np.flatnonzero(scores >= scores.max() - 1e-9)
    return float(cuts[best[len(best) // 2]]), float(scores.max())


def _silhouettes(similarity: NDArray[np.float64], tree: NDArray[np.float64], cuts: Iterable[float]) -> Iterator[float]:
    """Yield the mean silhouette at each cut, tightest first."""
    sums, finer = similarity, np.arange(len(similarity))
    for cut in cuts:
        labels = _cut_at(tree, cut)
        # Cuts are nested: each cluster is made of clusters of the one before, and so are the sums of similarities.
        if labels.max() < finer.max():
            part_of = np.empty(finer.max() + 1, dtype=np.int64)
            part_of[finer] = labels
            order = np.argsort(part_of, kind="stable")
            starts = np.searchsorted(part_of[order], np.arange(labels.max() + 1))
            sums, finer = np.add.reduceat(sums[:, order], starts, axis=1), labels
        yield _mean_silhouette(sums, finer)


def _mean_silhouette(sums: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean silhouette by `(n, k)` sums of each model's similarities with the clusters' members."""
    sizes = np.bincount(labels)
    if len(sizes) < 2:
        return 0.0
    rows, of_own = np.arange(len(labels)), sizes[labels]
    between = sums / sizes
    between[rows, labels] = -np.inf
    apart = 1 - between.max(axis=1)
    within = 1 - (sums[rows, labels] - 1) / np.maximum(of_own - 1, 1)
    scale = np.maximum(apart, within)
    widths = np.divide(apart - within, scale, out=np.zeros(len(labels)), where=(of_own > 1) & (scale > 0))
    return float(widths.mean())


def _joined(units: NDArray[np.float32], first: NDArray[np.int64], cut: float, at_once: int) -> NDArray[np.int64]:
    """Return a cluster number for each row, given those of the first `at_once`."""
    labels = np.full(len(units), ALONE)
    waiting, found = np.arange(len(units)), first
    while len(waiting):
        these, waiting = waiting[: len(found)], waiting[len(found) :]
        labels[these] = found + labels.max() + 1
        nearest, mean_similarity = _nearest(units[waiting], _means(units[these], found))
        joins = mean_similarity >= cut
        labels[waiting[joins]] = nearest[joins] + labels[these].min()
        waiting = waiting[~joins]
        if len(waiting):
            sample = cosine_similarity(units[waiting[:at_once]])
            found = _cut_at(average_linkage(sample), cut) if len(sample) > 1 else np.zeros(1, dtype=np.int64)
    return labels


def _means(units: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return `(k, d)`: a row's scalar product with a mean is its mean cosine similarity with that cluster."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    sums = np.add.reduceat(units[order], np.cumsum(sizes) - sizes, axis=0)
    return np.asarray(sums / sizes[:, None], dtype=np.float32)


def _nearest(units: NDArray[np.float32], means: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    nearest, similarity = np.zeros(len(units), dtype=np.int64), np.zeros(len(units))
    for start in range(0, len(units), _CHUNK):
        products = units[start : start + _CHUNK] @ means.T
        nearest[start : start + _CHUNK] = products.argmax(axis=1)
        similarity[start : start + _CHUNK] = products.max(axis=1)
    return nearest, similarity


def _number_by_size(found: NDArray[np.integer]) -> NDArray[np.int64]:
    names, first, member_of, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    number = np.full(len(names), ALONE)
    ranked = [name for name in np.lexsort((first, -sizes)) if sizes[name] > 1]
    number[ranked] = np.arange(len(ranked))
    return number[member_of].astype(np.int64)


def _strengths(units: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    strengths = np.full(len(labels), np.nan)
    inside = np.flatnonzero(labels != ALONE)
    if len(inside):
        own, sizes = labels[inside], np.bincount(labels[inside])
        total = _means(units[inside], own)[own] * sizes[own, None]
        others = np.einsum("ij,ij->i", units[inside], total) - 1
        strengths[inside] = np.clip(others / (sizes[own] - 1), -1, 1)
    return strengths
