"""Rules for drift findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.drift.line import Change, Step
from deltadex.types import Finding, FindingKind


def judge_drift(ids: Sequence[int], steps: Sequence[Step], *, recipe_id: int) -> list[Finding]:
    """Return findings for the change points of one registered model under one recipe.

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
            threshold=step.previous.limit,
            evidence={
                "change": step.change,
                "moved": step.in_words,
                "strength_ratio": step.previous.strength_ratio,
                "probe_distances": step.previous.probe_distances,
                "noise": step.previous.noise,
                "distance_from_first": step.first.distance if step.first else None,
            },
        )
        for before, newer, step in zip(ids, ids[1:], steps, strict=False)
        if step.change and step.previous and step.previous.recipe_id == recipe_id
    ]
