"""Thresholds from a company's own pairs, where there are enough of them to say anything.

*Near* means: as alike as finetunes of the same data under the same parameters, with another seed. Such reseeds are
known by their runs; the thresholds are the similarity and the norm ratio that nine of ten pairs of them reach.

*Same task*: the recipe's models are centred and clustered by average linkage, cut where the silhouette is best, and
the threshold is the plain similarity that tells pairs of one cluster best (by F1) among those above which nineteen of
twenty pairs are of one. So it is a number that an index can search by, and it errs towards silence. Measured on 35
really trained adapters (seven domains of three parts each, and two reseeds of each first part), in 47 draws of three
to seven of the domains: at least .95 of the pairs above it were of one domain in every draw, and it found .69 of such
pairs in the median, where .8 for all finds .50. Splitting the similarities alone, by Otsu, by Kittler and Illingworth
or by a mixture of two normals, gave .22 to .25 on the 21 parts, where .3 of the pairs above are of one domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from deltadex.analysis.similarity import cosine_similarity
from deltadex.domain import FloatArray

#: Pairs of reseeds before nine of ten of them are more than a guess.
FEWEST_RESEEDS = 10
#: Models, and clusters of them, before pairs tell tasks apart.
FEWEST_MODELS = 15
FEWEST_CLUSTERS = 3

_REACHED_BY = 0.9
_RIGHT = 0.95
#: Below, the clusters are no tasks that anybody could rely on; random vectors have one near 0.
_LEAST_SILHOUETTE = 0.5
_MOST_CUTS = 60
_DECIMALS = 3


@dataclass(frozen=True, eq=False)
class Sample:
    """`n` versions of one recipe, of which no two have the same weights. Their order never matters.

    Attributes
    ----------
    vectors
        `(n, d)` float32.
    models
        Registered model of each: versions of one say nothing about other models.
    trainings
        What finetunes of the same data under the same parameters have in common; None where unknown.
    """

    vectors: FloatArray
    models: Sequence[str]
    trainings: Sequence[str | None]


@dataclass(frozen=True)
class Threshold:
    """A number that decides, and where it is from.

    Attributes
    ----------
    is_calibrated
        From the recipe's own pairs; else it is the setting.
    pairs
        How many pairs there were to calibrate from.
    note
        How it came about, for people.
    """

    value: float
    is_calibrated: bool = False
    pairs: int = 0
    note: str = "the setting"


@dataclass(frozen=True)
class Calibration:
    """What decides about pairs of one recipe.

    Attributes
    ----------
    near_similarity, near_norm_ratio
        A near duplicate reaches both; a norm ratio is the smaller norm over the larger.
    same_task
        Cosine similarity of two finetunes for the same task.
    reseed_distance
        Median cosine distance between reseeds of the same data; None with too few of them. What moves less may be
        nothing but another seed.
    """

    near_similarity: Threshold
    near_norm_ratio: Threshold
    same_task: Threshold
    reseed_distance: float | None = None

    def at(self, similarity: float) -> Calibration:
        """Return what decides where a person previews another similarity of near duplicates."""
        return _ordered(replace(self, near_similarity=Threshold(similarity, note="a preview")))


def calibrate(models: Sample, reseeds: Sample, *, default: Calibration) -> Calibration:
    """Return the thresholds that a recipe's own pairs give, and the default where they are too few.

    Parameters
    ----------
    models
        Any versions of the recipe.
    reseeds
        Versions with a training that others have too.
    """
    same_task = _same_task(models, default.same_task)
    similarity, ratio = _reseed_pairs(reseeds)
    if len(similarity) < FEWEST_RESEEDS:
        problem = f"{len(similarity)} pairs of reseeds are known, {FEWEST_RESEEDS} are needed"
        return _uncalibrated(replace(default, same_task=same_task), len(similarity), problem)
    distance = float(1 - np.median(similarity))
    note = f"what {_REACHED_BY:.0%} of {len(similarity)} pairs of reseeds reach"
    near, as_long = (
        Threshold(round(float(np.quantile(values, 1 - _REACHED_BY)), _DECIMALS), True, len(values), note)
        for values in (similarity, ratio)
    )
    if near.value <= same_task.value:
        problem = f"{len(similarity)} pairs of reseeds are no more alike than finetunes for the same task"
        known = replace(default, same_task=same_task, reseed_distance=distance)
        return _uncalibrated(known, len(similarity), problem)
    return Calibration(near, as_long, same_task, distance)


def _uncalibrated(known: Calibration, pairs: int, problem: str) -> Calibration:
    near, as_long = (
        Threshold(one.value, pairs=pairs, note=f"the setting: {problem}")
        for one in (known.near_similarity, known.near_norm_ratio)
    )
    return _ordered(replace(known, near_similarity=near, near_norm_ratio=as_long))


def _ordered(calibration: Calibration) -> Calibration:
    """A pair that is near is for the same task too, whatever was calibrated."""
    near = calibration.near_similarity.value
    if calibration.same_task.value <= near:
        return calibration
    capped = Threshold(near, pairs=calibration.same_task.pairs, note="that of near duplicates, which is below its own")
    return replace(calibration, same_task=capped)


def _reseed_pairs(sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return similarity and norm ratio of each pair with the same training."""
    numbers = {training: number for number, training in enumerate(dict.fromkeys(sample.trainings))}
    training = np.array([-1 if one is None else numbers[one] for one in sample.trainings], dtype=np.int64)
    one, other = np.nonzero(np.triu((training[:, None] == training) & (training >= 0), k=1))
    if not len(one):
        return np.empty(0), np.empty(0)
    norms = np.linalg.norm(sample.vectors.astype(np.float64), axis=1)
    longer = np.maximum(norms[one], norms[other])
    ratio = np.divide(np.minimum(norms[one], norms[other]), longer, out=np.zeros(len(one)), where=longer > 0)
    return cosine_similarity(sample.vectors)[one, other], ratio


def _same_task(sample: Sample, default: Threshold) -> Threshold:
    count, (one, other) = len(set(sample.models)), np.triu_indices(len(sample.models), k=1)
    names = np.array(sample.models, dtype=object)
    if count < FEWEST_MODELS:
        return Threshold(default.value, note=f"the setting: {count} models, {FEWEST_MODELS} are needed to calibrate")
    labels, silhouette = _tasks(sample.vectors)
    clusters, pairs = len(set(labels)), int((names[one] != names[other]).sum())
    if silhouette < _LEAST_SILHOUETTE or clusters < FEWEST_CLUSTERS:
        groups = f"{count} models fall into {clusters} clusters with a silhouette of {silhouette:.2f}"
        needed = f"{FEWEST_CLUSTERS} and {_LEAST_SILHOUETTE} are needed to calibrate"
        return Threshold(default.value, pairs=pairs, note=f"the setting: {groups}, {needed}")
    between = names[one] != names[other]
    similarity, is_same = (
        cosine_similarity(sample.vectors)[one, other][between],
        (labels[one] == labels[other])[between],
    )
    order = np.argsort(-similarity, kind="stable")
    above, found = np.arange(1, len(order) + 1), np.cumsum(is_same[order])
    reached = np.flatnonzero(found / above >= _RIGHT)
    if not len(reached):
        note = f"the setting: of {pairs} pairs the most alike ones are in different clusters"
        return Threshold(default.value, pairs=pairs, note=note)
    best = reached[np.argmax(2 * found[reached] / (above[reached] + found[-1]))]
    value, right = float(similarity[order][best]), found[best] / above[best]
    note = f"{right:.0%} of the pairs above it are in one of {clusters} clusters (silhouette {silhouette:.2f})"
    return Threshold(round(value, _DECIMALS), True, pairs, note)


def _tasks(vectors: FloatArray) -> tuple[NDArray[np.int64], float]:
    """Return `(n,)` clusters of the centred models, cut where the silhouette is best, and that silhouette."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    distance = 1 - cosine_similarity(centred)
    tree = linkage(squareform(distance, checks=False), method="average")
    heights = tree[:, 2]
    cuts = np.unique(np.linspace(0, len(heights) - 2, _MOST_CUTS).astype(int))
    best = (np.zeros(len(vectors), dtype=np.int64), -1.0)
    for cut in cuts:
        labels = fcluster(tree, t=(heights[cut] + heights[cut + 1]) / 2, criterion="distance")
        score = _silhouette(distance, labels)
        if score > best[1]:
            best = (labels.astype(np.int64), score)
    return best


def _silhouette(distance: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Return the mean silhouette (Rousseeuw 1987), 0 for models that are alone, without scikit-learn's import."""
    _, number, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 1 < len(sizes) < len(labels):
        return -1.0
    rows = np.arange(len(labels))
    total = distance @ np.eye(len(sizes))[number]
    own = sizes[number]
    inside = np.divide(total[rows, number], own - 1, out=np.zeros(len(labels)), where=own > 1)
    mean = total / sizes
    mean[rows, number] = np.inf
    outside = mean.min(axis=1)
    larger = np.maximum(inside, outside)
    score = np.divide(outside - inside, larger, out=np.zeros(len(labels)), where=(larger > 0) & (own > 1))
    return float(score.mean())
