"""Clustering of models by average linkage on cosine similarity, cut at the highest mean silhouette (Rousseeuw 1987).

The similarity at which models are "one domain" differs between bases and pools, so there is no fixed cut. The method
was chosen by `benchmarks.clusters`. Outliers are in no cluster.

With more than `AT_ONCE` models, linkage runs on a sample of that size, chosen by a hash of the vectors, and is cut as
above. Every other model joins the cluster with the highest mean similarity, the criterion of average linkage, if it is
at least the cut. The models that join none go through the same procedure again.

Clusters in which people declare several domains may be divided further: see `clusters.division`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.clusters.division import divided
from deltadex.vectors import average_linkage, canonical_order, cosine_similarity, cut_tree, silhouettes, unit_vectors

#: Fewer models can form a pair, but no cluster.
FEWEST_MODELS = 3
ALONE = -1
#: Most models whose similarities are all computed (0.3 GB). On 10,000 synthetic vectors the clusters agreed with the
#: truth as well with 2,000 as with 5,000 (adjusted mutual information .997 and .994), in an eighth of the time.
AT_ONCE = 3_000
#: A lower mean silhouette means "no substantial structure" (Kaufman and Rousseeuw 1990).
LEAST_SILHOUETTE = 0.25

#: The previous cut is kept if its silhouette is at most this much below the best one.
KEPT_WITHIN = 0.02

#: Largest cut that is tried, and the step between cuts; members of a tighter cluster are near duplicates.
_TIGHTEST, _STEP = 0.95, 0.01
_CHUNK = 4_096


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the models.

    Attributes
    ----------
    labels
        `(n,)` int cluster numbers, 0 for the largest cluster; -1 for a model in no cluster.
    strengths
        `(n,)` float64 mean cosine similarity of a model to the other members of its cluster; NaN for a model in no
        cluster.
    cut
        Mean cosine similarity from which clusters were merged.
    silhouette
        Mean silhouette at the cut (cosine distance; 0 for a model in no cluster), over the sample if there was one, and
        before clusters were divided by declared domains; None with fewer than two clusters.
    note
        Reason why there are no clusters, or why the models were not divided.
    """

    labels: NDArray[np.int64]
    strengths: NDArray[np.float64]
    cut: float
    silhouette: float | None = None
    note: str = ""

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=ALONE)) + 1

    def members(self, label: int) -> list[int]:
        """Return the rows of one cluster."""
        return [int(row) for row in np.flatnonzero(self.labels == label)]


def cluster(
    vectors: ArrayLike,
    *,
    min_similarity: float,
    declared: Sequence[str | None] = (),
    previous_cut: float | None = None,
    at_once: int = AT_ONCE,
) -> Clusters:
    """Divide models into clusters.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. The order of the rows changes at most the numbers of the clusters.
    min_similarity
        Minimum mean cosine similarity at which two clusters are merged.
    declared
        Declared domain of each model, None without one, by which clusters are divided; see `clusters.division`.
    previous_cut
        Cut of the previous run; it is used again if it is about as good as the best one.
    at_once
        See `AT_ONCE`.
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
    found = _extend(units, cut_tree(tree, 1.0 - cut), cut, at_once)
    if declared:
        domains = [declared[row] for row in order]
        parts = divided(units, found, domains, min_silhouette=LEAST_SILHOUETTE, at_once=at_once)
        found, note = (parts, "") if parts.max() > found.max() else (found, note)
    original_order = np.argsort(order)
    labels = _number_by_size(found[original_order])
    has_several = labels.max() > 0
    strengths = _strengths(units[original_order], labels)
    return Clusters(labels, strengths, cut, silhouette if has_several else None, note)


def _best_cut(
    similarity: NDArray[np.float64], tree: NDArray[np.float64], min_similarity: float, previous: float | None
) -> tuple[float, float]:
    """Return the cut with the highest mean silhouette, and the silhouette; of tied cuts the middle one."""
    # Count the steps from the tightest cut, so that the previous cut is among them whatever the setting.
    steps = max(0, int((_TIGHTEST - min_similarity) / _STEP + 1e-9))
    cuts = np.round(_TIGHTEST - _STEP * np.arange(steps + 1), 2) if min_similarity <= _TIGHTEST else [min_similarity]
    scores = np.array(list(_silhouettes(similarity, tree, cuts)))
    for number, cut in enumerate(cuts):
        if cut == previous and scores[number] >= scores.max() - KEPT_WITHIN:
            return float(cut), float(scores[number])
    best = np.flatnonzero(scores >= scores.max() - 1e-9)
    return float(cuts[best[len(best) // 2]]), float(scores.max())


def _silhouettes(similarity: NDArray[np.float64], tree: NDArray[np.float64], cuts: Iterable[float]) -> Iterator[float]:
    """Yield the mean silhouette at each cut; the cuts are in descending order."""
    sums, finer = similarity, np.arange(len(similarity))
    for cut in cuts:
        labels = cut_tree(tree, 1.0 - cut)
        # Cuts are nested: a cluster is a union of the previous cut's clusters, so sums of similarities can be added.
        if labels.max() < finer.max():
            part_of = np.empty(finer.max() + 1, dtype=np.int64)
            part_of[finer] = labels
            order = np.argsort(part_of, kind="stable")
            starts = np.searchsorted(part_of[order], np.arange(labels.max() + 1))
            sums, finer = np.add.reduceat(sums[:, order], starts, axis=1), labels
        yield float(silhouettes(sums, finer).mean()) if finer.max() > 0 else 0.0


def _extend(units: NDArray[np.float32], first: NDArray[np.int64], cut: float, at_once: int) -> NDArray[np.int64]:
    """Return a cluster number for each row, starting from those of the first `at_once` rows."""
    labels = np.full(len(units), ALONE)
    waiting, found = np.arange(len(units)), first
    while len(waiting):
        batch, waiting = waiting[: len(found)], waiting[len(found) :]
        labels[batch] = found + labels.max() + 1
        nearest, mean_similarity = _nearest(units[waiting], _means(units[batch], found))
        joins = mean_similarity >= cut
        labels[waiting[joins]] = nearest[joins] + labels[batch].min()
        waiting = waiting[~joins]
        if len(waiting):
            sample = cosine_similarity(units[waiting[:at_once]])
            found = cut_tree(average_linkage(sample), 1.0 - cut) if len(sample) > 1 else np.zeros(1, dtype=np.int64)
    return labels


def _means(units: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return `(k, d)` means; a row's scalar product with a mean is its mean cosine similarity to that cluster."""
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
