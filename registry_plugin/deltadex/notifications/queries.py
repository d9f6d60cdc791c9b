"""Stored positions of notification rules, deliveries, and notices to owners."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from deltadex.findings.kinds import Severity
from deltadex.notifications.message import OPENED, Notice
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow
from deltadex.versions.queries import by_ids


@dataclass(frozen=True)
class Position:
    """Position of a rule: the last review and the last log entry that it covers, by id."""

    review_id: int
    decision_id: int
    sent_at: datetime | None = None


@dataclass(frozen=True)
class Delivery:
    """One message, which is tried again every round until it is delivered."""

    rule: str
    channel: str
    events: int
    attempts: int
    error: str
    tried_at: datetime
    delivered_at: datetime | None


def latest(tx: Transaction) -> Position:
    """Return the position after all reviews and log entries."""
    # Take the lock of writers: a transaction that is still open may commit a lower id than the highest one now.
    tx.execute("select pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0))")
    row = tx.execute(
        "select (select coalesce(max(id), 0) from reviews), (select coalesce(max(id), 0) from decisions)"
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    return Position(*row)


def position(tx: Transaction, registry: str, rule: str, *, start: Position) -> Position:
    """Return the position of a rule; a new rule begins at `start`, so that it does not report old events."""
    tx.execute(
        "insert into notified (registry, rule, review_id, decision_id) values (%s, %s, %s, %s) on conflict do nothing",
        [registry, rule, start.review_id, start.decision_id],
    )
    row = tx.execute(
        "select review_id, decision_id, sent_at from notified where registry = %s and rule = %s", [registry, rule]
    ).fetchone()
    assert row is not None  # noqa: S101 - the statement before inserts it if it is missing
    return Position(*row)


def advance(tx: Transaction, registry: str, rule: str, to: Position, *, sent: bool) -> None:
    """Store the position of a rule, and the time if a message was sent."""
    tx.execute(
        """
        update notified set review_id = %s, decision_id = %s, sent_at = case when %s then now() else sent_at end
        where registry = %s and rule = %s
        """,
        [to.review_id, to.decision_id, sent, registry, rule],
    )


def notices_between(tx: Transaction, registry: str, *, after: Position, until: Position) -> list[Notice]:
    """Return the events between two positions: new findings first, then entries in the order of the log."""
    found = tx.execute(
        """
        with happened as (
            select %(opened)s as event, id as review_id, 0 as decision_id from reviews
            where id > %(after_review)s and id <= %(until_review)s
            union all
            select action, review_id, id from decisions where id > %(after_decision)s and id <= %(until_decision)s
        )
        select event, review_id, kind, severity,
            coalesce(nullif(member_ids(evidence), '{}'), array_remove(array[model_version_id, other_id], null)) as ids
        from happened join reviews on reviews.id = review_id
        join model_versions version on version.id = model_version_id
        where version.registry = %(registry)s order by happened.decision_id, review_id
        """,
        {
            "registry": registry,
            "opened": OPENED,
            "after_review": after.review_id,
            "until_review": until.review_id,
            "after_decision": after.decision_id,
            "until_decision": until.decision_id,
        },
    ).fetchall()
    rows = by_ids(tx, sorted({each for *_, ids in found for each in ids}))
    return [
        Notice(
            event,
            review_id,
            FindingKind(kind),
            Severity(severity),
            tuple((ref.name, ref.version) for each in ids if (ref := rows[each].registered.ref)),
        )
        for event, review_id, kind, severity, ids in found
    ]


def record(tx: Transaction, registry: str, *, rule: str, channel: str, events: int, error: str) -> None:
    """Store a delivery; another attempt updates the pending one."""
    updated = tx.execute(
        """
        update deliveries set events = %s, attempts = attempts + 1, error = %s, tried_at = now(),
            delivered_at = case when %s = '' then now() end
        where delivered_at is null and registry = %s and rule = %s and channel = %s
        """,
        [events, error, error, registry, rule, channel],
    )
    if not updated.rowcount:
        tx.execute(
            """
            insert into deliveries (registry, rule, channel, events, error, delivered_at)
            values (%s, %s, %s, %s, %s, case when %s = '' then now() end)
            """,
            [registry, rule, channel, events, error, error],
        )


def listing(tx: Transaction, registry: str, *, limit: int = 50) -> list[Delivery]:
    """Return deliveries, newest first."""
    rows = tx.execute(
        """
        select rule, channel, events, attempts, error, tried_at, delivered_at from deliveries
        where registry = %s order by id desc limit %s
        """,
        [registry, limit],
    )
    return [Delivery(*row) for row in rows]


@dataclass(frozen=True)
class RepeatNotice:
    """A fresh version in a finding about a group; `note` is the tag in MLflow as last written."""

    review_id: int
    version: VersionRow
    note: str | None

    @property
    def version_id(self) -> int:
        """Id of the version."""
        return self.version.id


def notice_repeats(tx: Transaction, registry: str, *, kinds: Collection[FindingKind]) -> int:
    """Add a notice for each fresh version that is new in an undecided group with an older version; return how many.

    A version of the backlog was registered long ago, and one that was embedded before a day is no news.
    """
    done = tx.execute(
        """
        insert into repeat_notices (review_id, model_version_id)
        select reviews.id, version.id from reviews
        join model_versions version on version.id = any(member_ids(reviews.evidence))
        where version.registry = %s and reviews.kind = any(%s) and reviews.is_found
            and reviews.status in ('open', 'in_review') and version.queue = 'fresh' and version.state = 'embedded'
            and version.state_since > now() - interval '1 day'
            and exists (select from model_versions older where older.id = any(member_ids(reviews.evidence))
                and (older.created_ms, older.id) < (version.created_ms, version.id))
        on conflict do nothing
        """,
        [registry, list(kinds)],
    )
    return done.rowcount


def untold(tx: Transaction, registry: str) -> list[RepeatNotice]:
    """Return the notices whose owners are not told yet, except those that were tried within a minute."""
    return _notices(
        tx,
        """
        select review_id, model_version_id, note from repeat_notices
        join model_versions version on version.id = model_version_id
        where registry = %s and told_at is null and (tried_at is null or tried_at < now() - interval '1 minute')
        order by noticed_at, review_id, model_version_id
        """,
        [registry],
    )


def with_outdated_notes(tx: Transaction, registry: str, *, standing: Collection[str]) -> list[RepeatNotice]:
    """Return all notices of the versions whose tag in MLflow is not as their findings are now."""
    return _notices(
        tx,
        """
        with noticed as (
            select review_id, version.id as model_version_id, note,
                is_found and status = any(%(standing)s) and version.id = any(member_ids(evidence)) as stands
            from repeat_notices join reviews on reviews.id = review_id
            join model_versions version on version.id = repeat_notices.model_version_id
            where version.registry = %(registry)s
        )
        select review_id, model_version_id, note from noticed where model_version_id in (
            select model_version_id from noticed where note is null or stands = (note = ''))
        order by review_id
        """,
        {"registry": registry, "standing": list(standing)},
    )


def record_told(tx: Transaction, *, told: Sequence[int], failed: Sequence[int]) -> None:
    """Store which versions' owners are told, and for which a channel was away."""
    tx.execute(
        """
        update repeat_notices set tried_at = now(), told_at = case when model_version_id = any(%s) then now() end
        where told_at is null and model_version_id = any(%s)
        """,
        [list(told), [*told, *failed]],
    )


def record_note(tx: Transaction, *, version_id: int, note: str, standing: Collection[str]) -> None:
    """Store the tag of a version as it is in MLflow now."""
    tx.execute(
        """
        update repeat_notices set note = case when reviews.is_found and reviews.status = any(%s)
            and repeat_notices.model_version_id = any(member_ids(reviews.evidence)) then %s else '' end
        from reviews where reviews.id = review_id and repeat_notices.model_version_id = %s
        """,
        [list(standing), note, version_id],
    )


def _notices(
    tx: Transaction, query: LiteralString, parameters: Sequence[object] | Mapping[str, object]
) -> list[RepeatNotice]:
    found = tx.execute(query, parameters).fetchall()
    rows = by_ids(tx, sorted({version_id for _, version_id, _ in found}))
    return [RepeatNotice(review_id, rows[version_id], note) for review_id, version_id, note in found]
