"""From facts to findings. Pure: the thresholds are given, and are kept with every finding that used them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median

from numpy.typing import ArrayLike

from deltadex.analysis.drift import drift
from deltadex.domain import Embedding, Finding, FindingKind
from deltadex.settings import ThresholdSettings


def judge_pairs(
    version_id: int,
    same_weights_ids: Collection[int],
    neighbors: Iterable[tuple[int, float]],
    *,
    thresholds: ThresholdSettings,
) -> list[Finding]:
    """Return the duplicates of one version; a pair is exact or near, never both.

    Parameters
    ----------
    same_weights_ids
        Versions with the same weights digest.
    neighbors
        `(version id, cosine similarity)` under one recipe.
    """
    same = set(same_weights_ids) - {version_id}
    exact = [_pair(FindingKind.EXACT_DUPLICATE, version_id, other) for other in sorted(same)]
    limit = thresholds.near_duplicate_similarity
    near = [
        _pair(FindingKind.NEAR_DUPLICATE, version_id, other, measure=similarity, threshold=limit)
        for other, similarity in sorted(neighbors)
        if similarity >= limit and other != version_id and other not in same
    ]
    return exact + near


def judge_drift(ids: Sequence[int], vectors: ArrayLike, *, thresholds: ThresholdSettings) -> list[Finding]:
    """Return the steps of one registered model that are longer than the threshold.

    Parameters
    ----------
    ids
        Versions of one registered model under one recipe, oldest first, without those too weak to compare.
    vectors
        `(n, d)`, in the same order.
    """
    return [
        Finding(
            FindingKind.DRIFT,
            version_id=newer,
            other_id=older,
            measure=step.distance,
            threshold=thresholds.drift_distance,
            evidence={"norm_ratio": step.norm_ratio, "distance_from_first": step.from_first},
        )
        for older, newer, step in zip(ids, ids[1:], drift(vectors), strict=False)
        if step.distance >= thresholds.drift_distance
    ]


def judge_weak(version_id: int, embedding: Embedding, *, thresholds: ThresholdSettings) -> list[Finding]:
    """Return a finding where a finetune moves its base so little that comparing it would be guessing."""
    if embedding.strength >= thresholds.weak_strength:
        return []
    return [
        Finding(
            FindingKind.TOO_WEAK,
            version_id,
            measure=embedding.strength,
            threshold=thresholds.weak_strength,
            evidence={"norm": embedding.norm, "probe_agreement": embedding.probe_agreement},
        )
    ]


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


def _pair(
    kind: FindingKind, one: int, other: int, *, measure: float | None = None, threshold: float | None = None
) -> Finding:
    return Finding(kind, version_id=max(one, other), other_id=min(one, other), measure=measure, threshold=threshold)
