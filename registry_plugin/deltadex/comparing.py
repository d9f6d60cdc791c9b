"""A version beside all others of its recipe: what it duplicates, and by which thresholds that is told.

Incremental: a version is compared with its neighbours as it arrives, never all versions with each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from deltadex.analysis.calibration import Calibration, calibrate
from deltadex.checkpoints.imprint import merge_of
from deltadex.domain import Finding, VersionRow
from deltadex.governance import rules
from deltadex.governance.rules import Compared
from deltadex.settings import ThresholdSettings
from deltadex.store import calibration_sample, embeddings, findings, imprints, search, versions
from deltadex.store.conditions import Conditions
from deltadex.store.database import Transaction
from deltadex.store.search import Neighbor

#: So many closest versions are looked at before all that are similar enough are.
NEAREST = 20


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
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting, lately=True)
    if known is None:
        started = time.perf_counter()
        known = calibration_of(tx, recipe_id, registry, thresholds=thresholds)
        seconds = time.perf_counter() - started
        calibration_sample.remember(tx, recipe_id, registry, known, setting=setting, seconds=seconds)
    return known


def calibration_on_record(
    tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings
) -> Calibration:
    """Return by what the latest arrivals were judged, however long ago that is, else what `calibration_of` says."""
    setting = rules.default_calibration(thresholds)
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting) if thresholds.calibrate else setting
    return known or calibration_of(tx, recipe_id, registry, thresholds=thresholds)


def nearest(tx: Transaction, version: VersionRow) -> Sequence[Neighbor]:
    """Return the closest versions to one that was just stored: one search answers most that is asked on arrival."""
    return search.neighbors(tx, version.id, k=NEAREST, thoroughly=True).neighbors


def duplicates_of(
    tx: Transaction, version: VersionRow, recipe_id: int, near: Sequence[Neighbor], *, calibration: Calibration
) -> list[Finding]:
    """Return the exact and near duplicates of a version that was just stored, and the task that it repeats.

    Parameters
    ----------
    near
        What `nearest` said.
    """
    same = embeddings.same_weights(tx, version.id)
    limit = calibration.near_similarity.value
    if _reaches(near, limit):
        near = search.neighbors(tx, version.id, k=None, min_similarity=limit).neighbors
    compared = _compared(tx, version, recipe_id, near)
    merged = _merged(tx, version, recipe_id, [one for one in compared if one.similarity >= limit])
    pairs = rules.judge_pairs(version, same, compared, calibration=calibration, merged=merged)
    return [*pairs, *_same_task(tx, version, recipe_id, compared, same, calibration=calibration)]


def refresh_same_task(
    tx: Transaction, version: VersionRow, recipe_id: int, *, calibration: Calibration, before: Iterable[int] = ()
) -> None:
    """Judge younger versions again for which this one may be the first of their task: it may have come after them.

    Parameters
    ----------
    before
        Versions whose finding named this one until now.
    """
    judged = {other.id: _judge_anew(tx, other, recipe_id, calibration) for other in embeddings.ordered(tx, [*before])}
    if versions.is_followed(tx, version.registered.ref):
        younger = _younger(tx, version, recipe_id, calibration)
        known = findings.closest_older(tx, [one.version.id for one in younger], recipe_id)
        same = {row.id for row in embeddings.same_weights(tx, version.id)}
        for one in younger:
            other, closest = one.version, known.get(one.version.id, -1.0)
            if one.similarity > closest:
                this = replace(one, version=version)
                copies = [version] if other.id in same else []
                judged[other.id] = rules.judge_same_task(other, copies, [this], calibration=calibration)
            elif one.similarity == closest:
                judged[other.id] = _judge_anew(tx, other, recipe_id, calibration)
    found = [finding for each in judged.values() for finding in each]
    findings.replace_same_task(tx, found, ids=[*judged], recipe_id=recipe_id)


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


def _younger(tx: Transaction, version: VersionRow, recipe_id: int, calibration: Calibration) -> list[Compared]:
    """Return the versions of other models that came after this one, and are similar enough to repeat its task."""
    since = Conditions(created_from=_registered_at(version), other_than=version.registered.ref.name)
    limit = calibration.same_task.value
    near = search.neighbors(tx, version.id, k=None, min_similarity=limit, conditions=since).neighbors
    # Of those registered in the same millisecond the rest of their age tells which came first.
    return [
        one
        for one in _compared(tx, version, recipe_id, near)
        if one.version.registered.ref.age > version.registered.ref.age
    ]


def _judge_anew(tx: Transaction, version: VersionRow, recipe_id: int, calibration: Calibration) -> list[Finding]:
    same = embeddings.same_weights(tx, version.id)
    compared = _compared(tx, version, recipe_id, nearest(tx, version))
    return _same_task(tx, version, recipe_id, compared, same, calibration=calibration)


def _same_task(
    tx: Transaction,
    version: VersionRow,
    recipe_id: int,
    compared: Sequence[Compared],
    same: Sequence[VersionRow],
    *,
    calibration: Calibration,
) -> list[Finding]:
    if not any(map(partial(rules.may_be_first, version), compared)) and _reaches(compared, calibration.same_task.value):
        until = _registered_at(version) + timedelta(milliseconds=1)
        older = Conditions(created_before=until, other_than=version.registered.ref.name)
        found = search.neighbors(tx, version.id, k=NEAREST, conditions=older, thoroughly=True).neighbors
        compared = _compared(tx, version, recipe_id, found)
    return rules.judge_same_task(version, same, compared, calibration=calibration)


def _reaches(near: Sequence[Neighbor | Compared], similarity: float) -> bool:
    """Tell whether there may be more that are as similar than the nearest."""
    return len(near) >= NEAREST and near[-1].similarity >= similarity


def _registered_at(version: VersionRow) -> datetime:
    return datetime.fromtimestamp(version.registered.ref.created_ms / 1000, UTC)


def _compared(tx: Transaction, version: VersionRow, recipe_id: int, near: Sequence[Neighbor]) -> list[Compared]:
    norms = embeddings.norms(tx, recipe_id, [version.id, *(one.version.id for one in near)])
    own = norms.get(version.id, 0.0)
    return [
        Compared(one.version, one.similarity, min(own, norm) / (max(own, norm) or 1.0))
        for one in near
        if (norm := norms.get(one.version.id)) is not None
    ]
