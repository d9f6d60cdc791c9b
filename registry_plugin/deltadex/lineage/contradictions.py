"""Judge of declared origins that the weights contradict. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np

from deltadex.access import registered_model_of
from deltadex.checkpoints.sketch import Sketch
from deltadex.lineage.base import BaseVerdict, MeasuredBase
from deltadex.lineage.kinship import First, Origin, aligned, cosine, independence, kinship
from deltadex.types import NAMED, Finding, FindingKind

#: Tag of a version with the parents that it was merged or trained from: a JSON list of `name/version`.
PARENTS_TAG = "deltadex.parents"
_MOST_PARENTS, _LONGEST_TAG = 32, 20_000
#: Cosine with the update of a parent below which there is no trace of it.
_TRACELESS = 0.1
_LABEL = re.compile(r"(?P<name>.+)/(?P<version>\d{1,9})", re.DOTALL)


def declared_parents(tags: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return names and versions of the parents that a version's tag declares; what is not one is left out."""
    try:
        labels = json.loads(tags.get(PARENTS_TAG, "[]")[:_LONGEST_TAG])
    except (ValueError, RecursionError):
        return []
    found = [_LABEL.fullmatch(one) for one in labels if isinstance(one, str)] if isinstance(labels, list) else []
    return [(one["name"], int(one["version"])) for one in found if one is not None][:_MOST_PARENTS]


def judge_lineage(
    version_id: int, own: Sketch, *, base: MeasuredBase, declared_base: str, parents: Mapping[str, Sketch]
) -> list[Finding]:
    """Return a finding if the weights contradict the declared base or a declared parent.

    Parameters
    ----------
    parents
        Sketches of the declared parents, by their labels.
    """
    of_base, of_parents = _of_base(base, declared_base), _of_parents(own, parents)
    reasons = of_base + [reason for _, reason in of_parents]
    if not reasons:
        return []
    named = [label.rpartition("/")[0] for label, _ in of_parents]
    named += filter(None, map(registered_model_of, (declared_base, base.name) if of_base else ()))
    evidence = {"reason": "; ".join(reasons), NAMED: sorted(set(named))}
    return [Finding(FindingKind.LINEAGE_CONTRADICTED, version_id, evidence=evidence)]


def _of_base(base: MeasuredBase, declared: str) -> list[str]:
    if base.verdict is not BaseVerdict.ANOTHER:
        return []
    return [f"declared base {declared}, but the weights are a step from {base.name} (p = {base.p:.1g})"]


def _of_parents(own: Sketch, parents: Mapping[str, Sketch]) -> list[tuple[str, str]]:
    """Return the labels of contradicted parents, each with the reason."""
    reasons = []
    for label, parent in parents.items():
        if parent.layout != own.layout:
            reasons.append((label, "has other matrices"))
            continue
        kin = kinship(own, parent, comparisons=len(parents))
        if kin is None and _has_no_trace(own, parent, alone=len(parents) == 1):
            reasons.append((label, f"left no trace: {_independence(own, parent)}"))
        elif kin is not None and kin.origin is Origin.TRAINED_ON and kin.first is First.ONE and len(parents) == 1:
            reasons.append((label, "holds this version's update, so it is the later one of the two"))
    return [(label, f"declared parent {label} {reason}") for label, reason in reasons]


def _has_no_trace(own: Sketch, parent: Sketch, *, alone: bool) -> bool:
    """Return True if a parent can be ruled out: of full models a long training may hide one parent, no merge does."""
    can_tell = own.is_adapter or not alone
    return can_tell and cosine(own.deltas, parent.deltas) < _TRACELESS


def _independence(own: Sketch, parent: Sketch) -> str:
    """Return the evidence for independence in words."""
    shared = f"cosine {cosine(own.deltas, parent.deltas):.2f} of the updates"
    mine, its = aligned(own, parent)
    if not len(mine):
        return shared
    p = independence(np.einsum("me,me->m", own.down[mine], parent.down[its], dtype=np.float64))
    return f"{shared}, p = {p:.2g} for a shared beginning"
