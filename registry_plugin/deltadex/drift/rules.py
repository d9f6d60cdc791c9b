"""Rules for drift findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.drift.line import Change, Step, unresolved
from deltadex.types import Finding, FindingKind


def judge_drift(ids: Sequence[int], steps: Sequence[Step], in_use: Sequence[bool], *, recipe_id: int) -> list[Finding]:
    """Return findings for the unresolved drifts of one registered model under one recipe.

    Parameters
    ----------
    ids
        Its versions, oldest first, without those too weak to compare.
    steps
        `steps[i]` leads to `ids[i + 1]`.
    in_use
        Whether an alias points at each version.
    """
    open_steps = [(ids[place], ids[place + 1], steps[place]) for place in unresolved(steps, in_use)]
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
        for before, newer, step in open_steps
        if step.previous and step.previous.recipe_id == recipe_id
    ]
