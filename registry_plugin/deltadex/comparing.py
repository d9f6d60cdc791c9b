"""A version beside all others of its recipe: what it duplicates, and by which thresholds that is told.

Incremental: a version is compared with its neighbours as it arrives, never all versions with each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from deltadex.analysis.calibration import Calibration, calibrate
from deltadex.checkpoints.imprint import merge_of
from deltadex.domain import Finding, VersionRow
from deltadex.governance import rules
from deltadex.governance.rules import Compared
from deltadex.settings import ThresholdSettings
from deltadex.store import calibration_sample, embeddings, findings, imprints, search
from deltadex.store.conditions import Conditions
from deltadex.store.database import Transaction

#: Older neighbours that are looked at before all are, because these are versions of one model.
_LOOKED_AT = 32


def calibration_of(tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings) -> Calibration:
    """Return what decides about pairs of a recipe today: the same, in whatever order its versions came."""
    default = rules.default_calibration(thresholds)
    if not thresholds.calibrate:
        return default
    models = calibration_sample.any_versions(tx, recipe_id, registry)
    return calibrate(models, calibration_sample.reseeds(tx, recipe_id, registry), default=default)


def calibration_for_arrivals(
    tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings
) -> Calibration:
    """Return what `calibration_of` said lately: asked anew each time, it would take longer than all the rest."""
    setting = rules.default_calibration(thresholds)
    if not thresholds.calibrate:
        return setting
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting)
    if known is None:
        started = time.perf_counter()
        known = calibration_of(tx, recipe_id, registry, thresholds=thresholds)
        seconds = time.perf_counter() - started
        calibration_sample.remember(tx, recipe_id, registry, known, setting=setting, seconds=seconds)
    return known


def duplicates_of(tx: Transaction, version: VersionRow, recipe_id: int, *, calibration: Calibration) -> list[Finding]:
    """Return the exact and near duplicates of a version that was just stored, and the task that it repeats."""
    same = embeddings.same_weights(tx, version.id)
    near = _neighbors(tx, version, recipe_id, min_similarity=calibration.near_similarity.value)
    merged = _merged(tx, version, recipe_id, near)
    pairs = rules.judge_pairs(version, same, near, calibration=calibration, merged=merged)
    return [*pairs, *_same_task(tx, version, recipe_id, calibration=calibration)]


def refresh_same_task(
    tx: Transaction, version: VersionRow, recipe_id: int, *, calibration: Calibration, before: Iterable[int] = ()
) -> None:
    """Judge younger versions again for which this one may be the first of their task: it may have come after them.

    Parameters
    ----------
    before
        Versions whose finding named this one until now.
    """
    registered_at = datetime.fromtimestamp(version.registered.ref.created_ms / 1000, UTC)
    near = _neighbors(
        tx,
        version,
        recipe_id,
        min_similarity=calibration.same_task.value,
        conditions=Conditions(created_from=registered_at),
    )
    younger = [one for one in near if one.version.registered.ref.age > version.registered.ref.age]
    known = findings.same_task_measures(tx, [one.version.id for one in younger])
    affected = {one.version.id for one in younger if one.similarity > known.get(one.version.id, -1.0)} | set(before)
    for other in embeddings.ordered(tx, sorted(affected - {version.id})):
        found = _same_task(tx, other, recipe_id, calibration=calibration)
        findings.replace_same_task(tx, found, version_id=other.id, recipe_id=recipe_id)


def _merged(
    tx: Transaction, version: VersionRow, recipe_id: int, near: Sequence[Compared]
) -> list[tuple[VersionRow, str]]:
    """Return the near ones that are this version merged, or that it is a merge of, each with the evidence."""
    known = imprints.of_versions(tx, recipe_id, [version.id, *(one.version.id for one in near)])
    own = known.pop(version.id, None)
    found = []
    for one in near:
        merge = merge_of(own, known[one.version.id]) if own and one.version.id in known else None
        if merge:
            held = f"{merge.equal:.2%} of {merge.moved} changed weights that were looked at are what merging gives"
            found.append((one.version, f"an adapter and its merge in {merge.dtype}: {held}"))
    return found


def _same_task(tx: Transaction, version: VersionRow, recipe_id: int, *, calibration: Calibration) -> list[Finding]:
    same = embeddings.same_weights(tx, version.id)
    # Of those registered in the same millisecond the rule itself tells which came first.
    until = datetime.fromtimestamp(version.registered.ref.created_ms / 1000, UTC) + timedelta(milliseconds=1)
    for limit in (_LOOKED_AT, None):
        older = _neighbors(
            tx,
            version,
            recipe_id,
            k=limit,
            min_similarity=calibration.same_task.value,
            conditions=Conditions(created_before=until),
        )
        found = rules.judge_same_task(version, same, older, calibration=calibration)
        names = {one.version.registered.ref.name for one in older} - {version.registered.ref.name}
        if found or names or limit is None or len(older) < limit:
            break
    return found


def _neighbors(
    tx: Transaction,
    version: VersionRow,
    recipe_id: int,
    *,
    min_similarity: float,
    k: int | None = None,
    conditions: Conditions | None = None,
) -> list[Compared]:
    found = search.neighbors(tx, version.id, k=k, min_similarity=min_similarity, conditions=conditions).neighbors
    norms = embeddings.norms(tx, recipe_id, [version.id, *(one.version.id for one in found)])
    own = norms.get(version.id, 0.0)
    return [
        Compared(one.version, one.similarity, min(own, norm) / (max(own, norm) or 1.0))
        for one in found
        if (norm := norms.get(one.version.id)) is not None
    ]
