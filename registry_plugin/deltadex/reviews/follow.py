"""Queries that update reviews with the current findings. Status changes are decided in `reviews.lifecycle`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString

from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed
from psycopg.types.json import Jsonb

from deltadex.findings.kinds import KINDS, Concerns, Severity, kinds_about
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, RiskTier

_SCOPE: LiteralString = """
    (select id from model_versions where registry = %(registry)s and (%(name)s::text is null or name = %(name)s))
"""
#: Current findings about versions that are not deleted. A pair of a group's kind is evidence of the group's finding.
_FOUND: LiteralString = """
    (select findings.* from findings
    join model_versions version on version.id = findings.model_version_id
    left join model_versions other on other.id = findings.other_id
    where (version.state <> 'deleted' or findings.evidence ? 'members') and other.state is distinct from 'deleted'
        and (findings.model_version_id in {scope} or findings.other_id in {scope}
            or member_ids(findings.evidence) && array(select id from {scope} as scope))
        and not (findings.kind = any(%(groups)s) and findings.other_id is not null)) found
"""
_SAME: LiteralString = """
    found.kind = reviews.kind and found.model_version_id = reviews.model_version_id
    and found.other_id is not distinct from reviews.other_id
"""
# A version that is itself a base is unsupported without a hint: nothing needs to be done.
_FIND_ENDED: LiteralString = """
    insert into findings as known (kind, model_version_id, evidence, measured_at)
    select state, id, jsonb_build_object('reason', reason, 'hint', hint), state_since from model_versions
    where id in {scope} and (state = 'failed' or state = 'unsupported' and hint <> '' and not exists (
        select from findings where kind = 'wrong_base' and model_version_id = model_versions.id))
    on conflict (kind, model_version_id, other_id) do update
        set evidence = excluded.evidence, measured_at = excluded.measured_at
        where known.measured_at < excluded.measured_at
"""
# A version that was started over keeps its finding until it ends again.
_FORGET_ENDED: LiteralString = """
    delete from findings using model_versions version
    where version.id = model_version_id and model_version_id in {scope} and kind in ('failed', 'unsupported')
        and (state in ('embedded', 'skipped', 'deleted')
            or state in ('failed', 'unsupported') and state <> kind or exists (
            select from findings wrong where wrong.kind = 'wrong_base' and wrong.model_version_id = version.id))
"""
_GONE: LiteralString = """
    update reviews set is_found = false
    where is_found and (model_version_id in {scope} or other_id in {scope}
        or member_ids(evidence) && array(select id from {scope} as scope))
        and not exists (select from {found} where {same}) returning id
"""
_MEASURED: LiteralString = """
    update reviews set last_measured = found.measured_at from {found}
    where {same} and last_measured < found.measured_at returning reviews.id
"""
# A kind's severity may be another one in a later release.
_SEVERITY: LiteralString = """
    update reviews set severity = known.severity
    from unnest(%(kinds)s::text[], %(severities)s::text[]) as known (kind, severity)
    where reviews.kind = known.kind and reviews.severity <> known.severity and model_version_id in {scope}
"""
_CHANGED: LiteralString = """
    select reviews.id, found.kind, found.model_version_id, found.other_id, found.measure, found.threshold,
        found.evidence, found.recipe_id, found.measured_at
    from {found} left join reviews on {same}
    where reviews.id is null or not is_found
        or (reviews.measure, reviews.threshold, reviews.evidence, reviews.recipe_id)
        is distinct from (found.measure, found.threshold, found.evidence, found.recipe_id)
"""
_INSERT: LiteralString = """
    insert into reviews (kind, model_version_id, other_id, measure, threshold, evidence, recipe_id, last_measured,
        severity, due_at, planned_due_at)
    values (%(kind)s, %(model_version_id)s, %(other_id)s, %(measure)s, %(threshold)s, %(evidence)s, %(recipe_id)s,
        %(measured_at)s, %(severity)s, now() + %(due)s, now() + %(due)s)
    on conflict do nothing returning id
"""
_UPDATE: LiteralString = """
    update reviews set measure = %(measure)s, threshold = %(threshold)s, evidence = %(evidence)s,
        recipe_id = %(recipe_id)s, severity = %(severity)s, is_found = true
    where id = %(id)s
"""
# A date that a person set stays, until the finding is opened again.
_DUE: LiteralString = """
    select id, due from (
        select reviews.id, due_at, opened_at + make_interval(days => min(allowed.days)) as due
        from reviews
        cross join lateral (select greatest(first_seen, max(decided_at)) as opened_at from decisions
            where review_id = reviews.id and action in ('returned', 'reopened')) opened
        join model_versions version
            on version.id = any(array[model_version_id, other_id] || member_ids(reviews.evidence))
        left join registered_models model
            on (model.registry, model.name) = (version.registry, version.name) and not is_gone
        join unnest(%(due_tiers)s::text[], %(due_severities)s::text[], %(due_days)s::integer[])
            as allowed (tier, severity, days)
            on allowed.tier = coalesce(model.tier, '') and allowed.severity = reviews.severity
        where reviews.status in ('open', 'in_review') and (due_at = planned_due_at or due_at < opened_at)
            and (model_version_id in {scope} or other_id in {scope}
                or member_ids(reviews.evidence) && array(select id from {scope} as scope))
        group by reviews.id, opened_at) planned
    where due <> due_at order by id
"""


def follow(
    tx: Transaction, registry: str, *, name: str | None, due_days: Sequence[int] = (7, 30, 90)
) -> tuple[list[int], list[int]]:
    """Update reviews with the current findings; return the ids of the new ones and of the changed ones.

    Parameters
    ----------
    name
        Only findings about this registered model; None for all.
    due_days
        Days until a new finding is due, for each severity from high to low.
    """
    scope: dict[str, object] = {
        "registry": registry,
        "name": name,
        "kinds": [row.kind for row in KINDS.values()],
        "severities": [row.severity for row in KINDS.values()],
        "groups": list(kinds_about(Concerns.GROUP)),
    }
    # The lock of `record_decision`: two concurrent calls would record the same step, or deadlock on unordered rows.
    tx.execute("select pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0))")
    for statement in (_FIND_ENDED, _FORGET_ENDED, _SEVERITY):
        tx.execute(_formatted(statement), scope)
    gone = [row[0] for row in tx.execute(_formatted(_GONE), scope)]
    measured = [row[0] for row in tx.execute(_formatted(_MEASURED), scope)]
    with tx.cursor(row_factory=dict_row) as reading:
        found = [_with_severity(values, due_days) for values in reading.execute(_formatted(_CHANGED), scope)]
    changed = [values for values in found if values["id"] is not None]
    new = [values for values in found if values["id"] is None]
    with tx.cursor() as cursor:
        cursor.executemany(_UPDATE, changed)
        cursor.executemany(_INSERT, new, returning=True)
        opened = [row[0] for result in cursor.results() for row in result] if new else []
    return opened, sorted({*gone, *measured, *(values["id"] for values in changed)})


def plan_due_dates(
    tx: Transaction, registry: str, *, name: str | None, due_days: Mapping[RiskTier | None, Sequence[int]]
) -> None:
    """Set the due dates of undecided findings by the highest risk tier among the models that they are about.

    Parameters
    ----------
    name
        Only findings about this registered model; None for all.
    due_days
        Days until a finding is due, for each severity from high to low, by tier; under None for models without one.
    """
    table = [
        (tier or "", severity, days[at]) for tier, days in due_days.items() for at, severity in enumerate(Severity)
    ]
    tiers, severities, days = (list(column) for column in zip(*table, strict=True))
    scope = {"registry": registry, "name": name}
    allowed = {"due_tiers": tiers, "due_severities": severities, "due_days": days}
    moved = tx.execute(_formatted(_DUE), {**scope, **allowed}).fetchall()
    if moved:  # an update of no rows would announce a change
        with tx.cursor() as cursor:
            cursor.executemany(
                "update reviews set due_at = %s, planned_due_at = %s where id = %s",
                [(due, due, id_) for id_, due in moved],
            )


def mark_remeasured(tx: Transaction, recipe_id: int) -> None:
    """Set the measurement time of all pair findings of a recipe to now, even if their numbers are unchanged."""
    tx.execute(
        "update findings set measured_at = now() where recipe_id = %s and kind in ('near_duplicate', 'same_task')",
        [recipe_id],
    )


def with_outdated_tags(tx: Transaction, registry: str, *, limit: int) -> list[int]:
    """Return the ids of reviews whose latest log entry is not in MLflow's tags yet, the oldest entry first."""
    rows = tx.execute(
        """
        select reviews.id from reviews join model_versions on model_versions.id = model_version_id
        where registry = %s and decision_id is distinct from tagged_id order by decision_id limit %s
        """,
        [registry, limit],
    )
    return [row[0] for row in rows]


def mark_tagged(tx: Transaction, review_id: int, decision_id: int) -> None:
    """Record that MLflow's tags are up to date with this log entry."""
    tx.execute("update reviews set tagged_id = %s where id = %s", [decision_id, review_id])


def _formatted(statement: LiteralString) -> Composed:
    return SQL(statement).format(scope=SQL(_SCOPE), found=SQL(_FOUND).format(scope=SQL(_SCOPE)), same=SQL(_SAME))


def _with_severity(values: dict[str, Any], due_days: Sequence[int]) -> dict[str, Any]:
    """Return the columns of a finding with its severity, its due interval, and its evidence as JSON."""
    severity = KINDS[FindingKind(values["kind"])].severity
    due = timedelta(days=due_days[list(Severity).index(severity)])
    return {**values, "severity": severity, "due": due, "evidence": Jsonb(values["evidence"])}
