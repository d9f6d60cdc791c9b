"""Calibration of thresholds on a company's own pairs, if there are enough of them.

*Near* means as alike as reseeds: finetunes on the same data with the same parameters and another seed. Runs record
which versions are reseeds. The thresholds are the similarity and the norm ratio that nine of ten reseed pairs reach. A
fixed similarity would not do: on a real base, .95 can be a whole domain.

*Same task*: the recipe's models are centred and clustered by average linkage, cut where the silhouette is best. The
threshold is a plain cosine similarity, so that an index can search by it. Of all similarities above which at least 95 %
of the pairs are in one cluster, it is the one with the best F1; so it prefers precision. Measured on 35 trained
adapters (seven domains of three parts each, and two reseeds of each first part), in 47 draws of three to seven of the
domains: at least .95 of the pairs above it were of one domain in every draw, and its median recall was .69, against
.50 for a fixed threshold of .8. Thresholds from the similarities alone, by Otsu, by Kittler and Illingworth or by a
mixture of two normals, were .22 to .25 on the 21 parts, with only .3 of the pairs above them in one domain.

*Drift* is a move several times as long as an ordinary one: the median between reseeds, else between the successive
versions of the registry's own models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from deltadex.setting_groups import ThresholdSettings
from deltadex.types import FloatArray
from deltadex.vectors import average_linkage, cosine_similarity, cut_tree, silhouettes, similarity_sums

#: Fewest reseed pairs, and fewest trainings that they come from, for calibrated near-duplicate thresholds.
FEWEST_RESEEDS = 10
FEWEST_TRAININGS = 5
#: Fewest models, and fewest clusters of them, from which the same-task threshold is calibrated.
FEWEST_MODELS = 15
FEWEST_CLUSTERS = 3

#: Share of reseed pairs that reach the near-duplicate thresholds.
_RESEED_SHARE = 0.9
#: Minimum share of the pairs above the same-task threshold that are in one cluster.
_MIN_PRECISION = 0.95
#: Clusters with a lower silhouette are not reliable tasks; random vectors have a silhouette near 0.
_LEAST_SILHOUETTE = 0.5
_MOST_CUTS = 60
#: Fewest steps between successive versions, and fewest models that they come from, for a drift threshold.
FEWEST_STEPS = 10
_FEWEST_MOVING = 5
#: Drift is this many times an ordinary move, and at least the cosine distance that follows.
_DRIFT_MULTIPLE = 5
_LEAST_DRIFT = 0.02
_RULE_OF_THREE = 3
#: Value of a threshold that is not known: no cosine similarity reaches it.
UNKNOWN = 2.0
_DECIMALS = 3


@dataclass(frozen=True, eq=False)
class Sample:
    """`n` versions of one recipe, all with different weights. Results do not depend on their order.

    Attributes
    ----------
    vectors
        `(n, d)` float32.
    models
        Registered model of each. Pairs within one model are ignored for the same-task threshold.
    trainings
        Training digest of each, equal for reseeds; None if unknown.
    """

    vectors: FloatArray
    models: Sequence[str]
    trainings: Sequence[str | None]


@dataclass(frozen=True, eq=False)
class Steps:
    """Cosine distances between successive versions of the same model, `(n,)`, and how many models they come from."""

    distances: FloatArray
    models: int


@dataclass(frozen=True)
class Threshold:
    """A threshold and its origin.

    Attributes
    ----------
    value
        `UNKNOWN` if there is no evidence and no setting: nothing reaches it.
    pairs
        Number of pairs that were available for calibration.
    note
        The origin, for display.
    """

    value: float
    pairs: int = 0
    note: str = "the setting"

    @property
    def is_known(self) -> bool:
        """Return whether anything can reach it."""
        return self.value != UNKNOWN

    def kept(self, problem: str, *, pairs: int) -> Threshold:
        """Return this default of a calibration that was not possible, with the reason."""
        origin = "the setting" if self.is_known else "not known yet"
        return Threshold(self.value, pairs=pairs, note=f"{origin}: {problem}")


@dataclass(frozen=True)
class Calibration:
    """Thresholds for pairs of one recipe.

    Attributes
    ----------
    near_similarity, near_norm_ratio
        Near-duplicate thresholds; a near duplicate reaches both. The norm ratio is the smaller norm over the larger.
    same_task
        Same-task threshold (cosine similarity).
    drift
        Drift threshold (cosine distance).
    reseed_distance
        Median cosine distance between reseeds; None if there are too few. A smaller distance may be due to the seed
        alone.
    step_distance
        Median cosine distance between successive versions of a model; None if there are too few.
    other_pairs, other_near
        Pairs of models that are known to have been trained on other data or with other parameters, and how many of
        them reach the near-duplicate similarity.
    """

    near_similarity: Threshold
    near_norm_ratio: Threshold
    same_task: Threshold
    drift: Threshold
    reseed_distance: float | None = None
    step_distance: float | None = None
    other_pairs: int = 0
    other_near: int = 0

    def false_pairs(self, versions: int) -> float | None:
        """Return how many near pairs of other trainings to expect among so many versions; None if that is not known.

        Where the sample has none, it is the number that one would miss in one of twenty samples (the rule of three).
        """
        if not self.near_similarity.is_known or not self.other_pairs:
            return None
        return (self.other_near or _RULE_OF_THREE) / self.other_pairs * versions * (versions - 1) / 2

    def false_pairs_in_words(self, versions: int) -> str:
        """Return the expectation as a sentence; empty if there is none."""
        expected = self.false_pairs(versions)
        if expected is None:
            return ""
        seen = f"of {self.other_pairs:,} pairs of other trainings {self.other_near or 'none'} reach it"
        bound = "about" if self.other_near else "at most"
        return f"{seen}: {bound} {expected:,.0f} such pairs among {versions:,} versions"

    def at(self, similarity: float) -> Calibration:
        """Return these thresholds with another near-duplicate similarity, for a preview."""
        return _ordered(replace(self, near_similarity=Threshold(similarity, note="a preview")))


def calibrate(models: Sample, reseeds: Sample, steps: Steps, *, default: Calibration) -> Calibration:
    """Return thresholds from a recipe's own pairs, or the defaults if there are too few.

    Parameters
    ----------
    models
        Any versions of the recipe.
    reseeds
        Versions that share their training digest with others.
    """
    found = _with_drift(_of_pairs(models, reseeds, default), steps)
    similarities = _of_other_trainings(models)
    near = int((similarities >= found.near_similarity.value).sum())
    return replace(found, other_pairs=len(similarities), other_near=near)


def _of_pairs(models: Sample, reseeds: Sample, default: Calibration) -> Calibration:
    """Return the thresholds for pairs; that for drift stays as it was."""
    same_task = _same_task(models, default.same_task)
    similarity, ratio = _reseed_pairs(reseeds)
    trainings = sum(count > 1 for training, count in Counter(reseeds.trainings).items() if training)
    if len(similarity) < FEWEST_RESEEDS or trainings < FEWEST_TRAININGS:
        there = f"{len(similarity)} pairs of reseeds of {trainings} trainings are known"
        problem = f"{there}, {FEWEST_RESEEDS} of {FEWEST_TRAININGS} are needed"
        return _uncalibrated(replace(default, same_task=same_task), len(similarity), problem)
    distance = float(1 - np.median(similarity))
    note = f"{_RESEED_SHARE:.0%} of {len(similarity)} pairs of reseeds reach it"
    near, norm_ratio = (
        Threshold(round(float(np.quantile(values, 1 - _RESEED_SHARE)), _DECIMALS), len(values), note)
        for values in (similarity, ratio)
    )
    if same_task.is_known and near.value <= same_task.value:
        problem = f"{len(similarity)} pairs of reseeds are no more alike than finetunes for the same task"
        known = replace(default, same_task=same_task, reseed_distance=distance)
        return _uncalibrated(known, len(similarity), problem)
    return Calibration(near, norm_ratio, same_task, default.drift, distance)


def _with_drift(known: Calibration, steps: Steps) -> Calibration:
    """Return the calibration with a drift threshold of several ordinary moves."""
    count, pairs = len(steps.distances), known.near_similarity.pairs
    if count >= FEWEST_STEPS and steps.models >= _FEWEST_MOVING:
        known = replace(known, step_distance=float(np.median(steps.distances)))
    ordinary, of, number = (
        (known.reseed_distance, f"reseeds (median of {pairs} pairs)", pairs)
        if known.reseed_distance is not None
        else (known.step_distance, f"successive versions (median of {count} steps)", count)
    )
    if ordinary is None:
        problem = f"{count} steps of {steps.models} models are known, {FEWEST_STEPS} of {_FEWEST_MOVING} are needed"
        return replace(known, drift=known.drift.kept(problem, pairs=count))
    value = round(max(_DRIFT_MULTIPLE * ordinary, _LEAST_DRIFT), _DECIMALS)
    return replace(known, drift=Threshold(value, number, f"{_DRIFT_MULTIPLE} times the distance between {of}"))


def _uncalibrated(known: Calibration, pairs: int, problem: str) -> Calibration:
    near, norm_ratio = (one.kept(problem, pairs=pairs) for one in (known.near_similarity, known.near_norm_ratio))
    return _ordered(replace(known, near_similarity=near, near_norm_ratio=norm_ratio))


def _ordered(calibration: Calibration) -> Calibration:
    """Return the calibration with a same-task threshold of at most the near-duplicate threshold."""
    near = calibration.near_similarity.value
    if calibration.same_task.value <= near or not calibration.same_task.is_known:
        return calibration
    capped = Threshold(near, pairs=calibration.same_task.pairs, note="capped at the near-duplicate threshold")
    return replace(calibration, same_task=capped)


def _reseed_pairs(sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the similarity and the norm ratio of each reseed pair."""
    numbers = {training: number for number, training in enumerate(dict.fromkeys(sample.trainings))}
    training = np.array([-1 if one is None else numbers[one] for one in sample.trainings], dtype=np.int64)
    one, other = np.nonzero(np.triu((training[:, None] == training) & (training >= 0), k=1))
    if not len(one):
        return np.empty(0), np.empty(0)
    norms = np.linalg.norm(sample.vectors.astype(np.float64), axis=1)
    longer = np.maximum(norms[one], norms[other])
    ratio = np.divide(np.minimum(norms[one], norms[other]), longer, out=np.zeros(len(one)), where=longer > 0)
    return cosine_similarity(sample.vectors)[one, other], ratio


def _of_other_trainings(sample: Sample) -> FloatArray:
    """Return the similarities of the pairs of versions whose trainings are known, and are not the same."""
    one, other = np.triu_indices(len(sample.trainings), k=1)
    numbers = np.unique([training or "" for training in sample.trainings], return_inverse=True)[1]
    known = np.array([training is not None for training in sample.trainings], dtype=bool)
    chosen = known[one] & known[other] & (numbers[one] != numbers[other])
    if not chosen.any():  # an empty sample has no dimension either
        return np.empty(0, np.float32)
    similarities: FloatArray = cosine_similarity(sample.vectors)[one[chosen], other[chosen]]
    return similarities


def _same_task(sample: Sample, default: Threshold) -> Threshold:
    count, (one, other) = len(set(sample.models)), np.triu_indices(len(sample.models), k=1)
    names = np.array(sample.models, dtype=object)
    if count < FEWEST_MODELS:
        return default.kept(f"{count} models, {FEWEST_MODELS} are needed to calibrate", pairs=0)
    labels, silhouette = _tasks(sample.vectors)
    clusters, pairs = len(set(labels)), int((names[one] != names[other]).sum())
    if silhouette < _LEAST_SILHOUETTE or clusters < FEWEST_CLUSTERS:
        groups = f"{count} models fall into {clusters} clusters with a silhouette of {silhouette:.2f}"
        needed = f"{FEWEST_CLUSTERS} and {_LEAST_SILHOUETTE} are needed to calibrate"
        return default.kept(f"{groups}, {needed}", pairs=pairs)
    between = names[one] != names[other]
    similarity, is_same = (
        cosine_similarity(sample.vectors)[one, other][between],
        (labels[one] == labels[other])[between],
    )
    order = np.argsort(-similarity, kind="stable")
    above, same_above = np.arange(1, len(order) + 1), np.cumsum(is_same[order])
    precise = np.flatnonzero(same_above / above >= _MIN_PRECISION)
    if not len(precise):
        return default.kept(f"of {pairs} pairs the most alike ones are in different clusters", pairs=pairs)
    best = precise[np.argmax(2 * same_above[precise] / (above[precise] + same_above[-1]))]
    value, precision = float(similarity[order][best]), same_above[best] / above[best]
    note = f"{precision:.0%} of the pairs above it are in one of {clusters} clusters (silhouette {silhouette:.2f})"
    return Threshold(round(value, _DECIMALS), pairs, note)


def _tasks(vectors: FloatArray) -> tuple[NDArray[np.int64], float]:
    """Return `(n,)` cluster labels of the centred models, cut at the best silhouette, and that silhouette."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    similarity = cosine_similarity(centred)
    tree = average_linkage(similarity)
    heights = tree[:, 2]
    cuts = np.unique(np.linspace(0, len(heights) - 2, _MOST_CUTS).astype(int))
    best = (np.zeros(len(vectors), dtype=np.int64), -1.0)
    for cut in cuts:
        labels = cut_tree(tree, (heights[cut] + heights[cut + 1]) / 2)
        if 0 < labels.max() < len(labels) - 1:
            score = float(silhouettes(similarity_sums(similarity, labels), labels).mean())
            best = max(best, (labels, score), key=itemgetter(1))
    return best


def default_calibration(thresholds: ThresholdSettings) -> Calibration:
    """Return the thresholds of the settings; those that are not set are not known."""
    near, same_task = (
        Threshold(UNKNOWN, note="not known") if value is None else Threshold(value)
        for value in (thresholds.near_duplicate_similarity, thresholds.same_task_similarity)
    )
    ratio = Threshold(thresholds.near_duplicate_norm_ratio)
    drift = Threshold(thresholds.drift_distance)
    return _ordered(Calibration(near_similarity=near, near_norm_ratio=ratio, same_task=same_task, drift=drift))
