"""Rules for findings about weak deltas and wrong bases. Pure: thresholds are arguments, and stored with findings."""

from __future__ import annotations

from deltadex.setting_groups import ThresholdSettings
from deltadex.types import Embedding, Finding, FindingKind
from deltadex.vectors import lowest_strength


def judge_weak(version_id: int, embedding: Embedding, *, thresholds: ThresholdSettings) -> list[Finding]:
    """Return a finding if a finetune is too weak to compare.

    Its delta is too small, too close to the noise, or differs too much between probes. Five unrelated probes have an
    agreement of 1 / √5 = .45 with their mean.
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


def wrong_base(
    version_id: int, reason: str, *, measure: float | None = None, threshold: float | None = None
) -> Finding:
    """Return the finding for a version whose declared base does not fit its weights.

    Parameters
    ----------
    measure, threshold
        Relative weight distance and its limit; None if not measured.
    """
    return Finding(
        FindingKind.WRONG_BASE, version_id, measure=measure, threshold=threshold, evidence={"reason": reason}
    )
