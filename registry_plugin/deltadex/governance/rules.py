"""From facts to findings. Pure: the thresholds are given, and are kept with every finding that used them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from deltadex.analysis.calibration import Calibration, Threshold
from deltadex.analysis.drift import Change, Step
from deltadex.analysis.strength import lowest_strength
from deltadex.domain import Embedding, Finding, FindingKind, VersionRow
from deltadex.settings import ThresholdSettings


@dataclass(frozen=True)
class Compared:
    """Another version of the same recipe, beside the one that is judged.

    Attributes
    ----------
    similarity
        Cosine similarity of the two.
    norm_ratio
        The smaller norm over the larger.
    """

    version: VersionRow
    similarity: float
    norm_ratio: float


def default_calibration(thresholds: ThresholdSettings) -> Calibration:
    """Return what decides about pairs where a recipe's own pairs are too few to say."""
    return Calibration(
        near_similarity=Threshold(thresholds.near_duplicate_similarity),
        near_norm_ratio=Threshold(thresholds.near_duplicate_norm_ratio),
        same_task=Threshold(min(thresholds.same_task_similarity, thresholds.near_duplicate_similarity)),
    )


def is_near(one: Compared, calibration: Calibration) -> bool:
    """Tell whether two versions behave as alike as reseeds of the same data."""
    near = one.similarity >= calibration.near_similarity.value
    return near and one.norm_ratio >= calibration.near_norm_ratio.value


def judge_pairs(
    version: VersionRow,
    same_weights: Iterable[VersionRow],
    neighbors: Iterable[Compared],
    *,
    calibration: Calibration,
    merged: Sequence[tuple[VersionRow, str]] = (),
) -> list[Finding]:
    """Return the duplicates of one version; a pair is exact or near, never both.

    Versions of one registered model are near duplicates as a rule: the later one supersedes the earlier one, and
    nobody has to decide that. Only where they have the same weights was one registered for nothing.

    Parameters
    ----------
    same_weights
        Versions with the same weights digest.
    neighbors
        Versions under one recipe.
    merged
        Versions that are this one merged, or that it is a merge of, each with the evidence for it.
    """
    why = {other.id: {"reason": reason} for other, reason in merged}
    exact = {other.id: other for other in (*same_weights, *(other for other, _ in merged)) if other.id != version.id}
    found = [
        replace(_pair(FindingKind.EXACT_DUPLICATE, version, other), evidence=why.get(other.id, {}))
        for other in exact.values()
    ]
    for one in neighbors:
        if _is_other_model(version, one) and one.version.id not in exact and is_near(one, calibration):
            finding = _pair(FindingKind.NEAR_DUPLICATE, version, one.version)
            limit = calibration.near_similarity
            evidence = {
                "norm_ratio": one.norm_ratio,
                "lowest_norm_ratio": calibration.near_norm_ratio.value,
                "threshold_from": limit.note,
            }
            found.append(replace(finding, measure=one.similarity, threshold=limit.value, evidence=evidence))
    return sorted(found, key=lambda finding: (finding.kind, finding.version_id, finding.other_id))


def judge_same_task(
    version: VersionRow,
    same_weights: Iterable[VersionRow],
    neighbors: Iterable[Compared],
    *,
    calibration: Calibration,
) -> list[Finding]:
    """Return the finding that there was a finetune for this task before, with the closest one of another model.

    One for each version at most, since the pairs of a task grow with the square of its finetunes. None where the
    closest one is an exact or a near duplicate: that says it already.
    """
    older = [one for one in neighbors if may_be_first(version, one)]
    closest = max(older, key=lambda one: (one.similarity, one.version.registered.ref.age), default=None)
    limit = calibration.same_task
    if closest is None or closest.similarity < limit.value or is_near(closest, calibration):
        return []
    if closest.version.id in {other.id for other in same_weights}:
        return []
    finding = _pair(FindingKind.SAME_TASK, version, closest.version)
    evidence = {"norm_ratio": closest.norm_ratio, "threshold_from": limit.note}
    return [replace(finding, measure=closest.similarity, threshold=limit.value, evidence=evidence)]


def may_be_first(version: VersionRow, one: Compared) -> bool:
    """Tell whether a version repeats this one's task, if both are for the same: it is older, of another model."""
    return _is_other_model(version, one) and _is_older(one.version, version)


def judge_drift(
    ids: Sequence[int], steps: Sequence[Step], *, recipe_id: int, thresholds: ThresholdSettings
) -> list[Finding]:
    """Return the change points of one registered model that show under one recipe.

    Parameters
    ----------
    ids
        Its versions, oldest first, without those too weak to compare.
    steps
        `steps[i]` leads to `ids[i + 1]`.
    """
    return [
        Finding(
            FindingKind.DRIFT,
            version_id=newer,
            other_id=before if step.change is Change.JUMP or step.reference is None else ids[step.reference],
            measure=step.previous.distance if step.change is Change.JUMP else step.measure,
            threshold=thresholds.drift_distance,
            evidence={
                "change": step.change,
                "strength_ratio": step.previous.strength_ratio,
                "probe_distances": step.previous.probe_distances,
                "noise": step.previous.noise,
                "distance_from_first": step.first.distance if step.first else None,
            },
        )
        for before, newer, step in zip(ids, ids[1:], steps, strict=False)
        if step.change and step.previous and step.previous.recipe_id == recipe_id
    ]


def judge_weak(version_id: int, embedding: Embedding, *, thresholds: ThresholdSettings) -> list[Finding]:
    """Return a finding where comparing a finetune would be guessing.

    It moves its base too little, or not far enough beyond the noise, or the probes don't agree where to: five probes
    that have nothing in common agree by 1 / √5 = .45 with their mean.
    """
    limit = lowest_strength(thresholds.weak_strength, embedding.noise_floor)
    measure, reason = embedding.strength, "noise" if limit > thresholds.weak_strength else "strength"
    if embedding.strength >= limit:
        measure, limit, reason = embedding.probe_agreement, thresholds.weak_agreement, "probe agreement"
    if measure >= limit:
        return []
    evidence = {
        "reason": reason,
        "strength": embedding.strength,
        "norm": embedding.norm,
        "probe_agreement": embedding.probe_agreement,
        "noise_floor": embedding.noise_floor,
    }
    return [Finding(FindingKind.TOO_WEAK, version_id, measure=measure, threshold=limit, evidence=evidence)]


def judge_label(
    version_id: int, declared: str, similarities: Mapping[str, Sequence[float]], *, thresholds: ThresholdSettings
) -> list[Finding]:
    """Return a finding where a version moves like those of another label than the one that it declares.

    A label is as close as the median of its nearest `label_versions`; one that fewer declare is not judged, and takes
    no part. Two words for one thing are about equally close: then nothing is clear, and nothing is found.

    Parameters
    ----------
    similarities
        By label, the cosine similarity of the nearest other versions that declare it.
    """
    fewest, margin = thresholds.label_versions, thresholds.label_margin
    typical = {
        label: median(sorted(near, reverse=True)[:fewest])
        for label, near in similarities.items()
        if len(near) >= fewest
    }
    own = typical.pop(declared, None)
    if own is None or not typical:
        return []
    moves_like = max(sorted(typical), key=typical.__getitem__)
    if typical[moves_like] - own < margin:
        return []
    return [
        Finding(
            FindingKind.LABEL_CONTRADICTED,
            version_id,
            measure=typical[moves_like] - own,
            threshold=margin,
            evidence={
                "declared": declared,
                "moves_like": moves_like,
                "similarity_to_declared": own,
                "similarity_to_moves_like": typical[moves_like],
                "versions_of_each": fewest,
            },
        )
    ]


def wrong_base(
    version_id: int, reason: str, *, measure: float | None = None, threshold: float | None = None
) -> Finding:
    """Return the finding for a version whose declared base does not fit its weights.

    Parameters
    ----------
    measure, threshold
        The relative distance of the weights and its limit, where they were measured.
    """
    return Finding(
        FindingKind.WRONG_BASE, version_id, measure=measure, threshold=threshold, evidence={"reason": reason}
    )


def _pair(kind: FindingKind, one: VersionRow, other: VersionRow) -> Finding:
    older, newer = (one, other) if _is_older(one, other) else (other, one)
    return Finding(kind, version_id=newer.id, other_id=older.id)


def _is_older(one: VersionRow, other: VersionRow) -> bool:
    return one.registered.ref.age < other.registered.ref.age


def _is_other_model(version: VersionRow, one: Compared) -> bool:
    return one.version.registered.ref.name != version.registered.ref.name
