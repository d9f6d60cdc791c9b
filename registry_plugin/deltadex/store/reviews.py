"""What people made of findings, and its log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL

from deltadex.domain import Finding, FindingKind, VersionRow
from deltadex.errors import ChangedMeanwhile
from deltadex.governance.lifecycle import Action, Basis, Review, Severity, Status
from deltadex.store.database import Transaction
from deltadex.store.versions import by_ids

_CHANGED_MEANWHILE = "DX001"


@dataclass(frozen=True)
class LogEntry:
    """One entry of the log: who did what about a finding, when, and on which numbers.

    Attributes
    ----------
    subject, other_subject
        `registry:name/version@creation time`, as the versions were called then.
    models
        The registered models concerned, as they are called now.
    rule
        The delegated rule that decided in the reviewer's name; empty where the reviewer did.
    decided_by
        The database user of the program that asked.
    """

    id: int
    review_id: int
    kind: FindingKind
    subject: str
    other_subject: str | None
    models: tuple[str, ...]
    measure: float | None
    threshold: float | None
    action: Action
    status: Status
    reason: str
    comment: str
    reviewer: str
    rule: str
    assignee: str
    decided_by: str
    decided_at: datetime
    hash: str


@dataclass(frozen=True)
class ReviewRow:
    """A finding, for as long as it is known, and what people made of it.

    Attributes
    ----------
    revision
        Raised by every change: whoever decides says which one they saw.
    finding
        With the last numbers, also where it is no longer found.
    other
        The older version of a pair.
    last
        The latest entry of the log; None while nobody has done anything.
    last_measured
        When it was last found to be so.
    """

    id: int
    revision: int
    finding: Finding
    version: VersionRow
    other: VersionRow | None
    review: Review
    is_found: bool
    severity: Severity
    assignee: str
    due_at: datetime
    first_seen: datetime
    last_measured: datetime
    status_since: datetime
    last: LogEntry | None

    @property
    def owner(self) -> str:
        """Who answers for the version, by its tags; empty where they don't say."""
        return self.version.registered.owner or ""

    @property
    def versions(self) -> tuple[VersionRow, ...]:
        """The versions concerned, the newer one first."""
        return (self.version,) if self.other is None else (self.version, self.other)


@dataclass(frozen=True)
class Chain:
    """The log, computed anew.

    Attributes
    ----------
    entries
        How many there are.
    head
        Hash of the last one; whoever notes it down can tell later that nothing before it changed. Empty: no entries.
    broken
        The first entry that is not what it was, or doesn't follow the one before; None where all is well.
    """

    entries: int
    head: str
    broken: int | None


def listing(
    tx: Transaction,
    registry: str,
    *,
    ids: Collection[int] | None = None,
    statuses: Collection[Status] = tuple(Status),
    kinds: Collection[FindingKind] = tuple(FindingKind),
    version_id: int | None = None,
) -> list[ReviewRow]:
    """Return reviews, the most severe first and then the earliest due."""
    with tx.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            """
            select reviews.*, request.reviewer as requested_by
            from reviews
            join model_versions on model_versions.id = reviews.model_version_id
            left join decisions request on request.id = reviews.request_id
            where registry = %(registry)s and reviews.status = any(%(statuses)s) and reviews.kind = any(%(kinds)s)
                and (%(ids)s::bigint[] is null or reviews.id = any(%(ids)s))
                and (%(version)s::bigint is null or %(version)s in (reviews.model_version_id, reviews.other_id))
            order by array_position('{high,medium,low}', severity), due_at, reviews.id
            """,
            {
                "registry": registry,
                "statuses": list(statuses),
                "kinds": list(kinds),
                "ids": None if ids is None else list(ids),
                "version": version_id,
            },
        ).fetchall()
    versions = by_ids(tx, sorted({one[key] for one in found for key in ("model_version_id", "other_id") if one[key]}))
    entries = {entry.id: entry for entry in _entries(tx, "entry.id = any(%s)", [[r["decision_id"] for r in found]])}
    return [_row(values, versions, entries) for values in found]


def history(tx: Transaction, *review_ids: int) -> list[LogEntry]:
    """Return the log about some findings, oldest first."""
    return _entries(tx, "entry.review_id = any(%s) order by entry.id", [list(review_ids)])


def log(
    tx: Transaction,
    registry: str,
    *,
    reviewer: str | None = None,
    rule: str | None = None,
    since: datetime | None = None,
    limit: int = 200,
) -> list[LogEntry]:
    """Return the log, newest first; by one reviewer, one rule, or since a time."""
    return _entries(
        tx,
        """
        version.registry = %s and (%s::text is null or reviewer = %s) and (%s::text is null or entry.rule = %s)
        and (%s::timestamptz is null or decided_at >= %s) order by entry.id desc limit %s
        """,
        [registry, reviewer, reviewer, rule, rule, since, since, limit],
    )


def count_by_rule(tx: Transaction, registry: str, rule: str) -> int:
    """Return how many entries of the log a delegated rule has made."""
    row = tx.execute(
        """
        select count(*) from decisions join model_versions version on version.id = model_version_id
        where registry = %s and rule = %s
        """,
        [registry, rule],
    ).fetchone()
    return row[0] if row else 0


def record(
    tx: Transaction,
    review_id: int,
    action: Action,
    *,
    seen: int,
    reviewer: str,
    reason: str = "",
    comment: str = "",
    rule: str = "",
    assignee: str | None = None,
    due_at: datetime | None = None,
) -> int:
    """Add an entry to the log and take the step that it tells of, in the database; return the entry's id.

    Parameters
    ----------
    seen
        The revision that the decision rests on.
    assignee, due_at
        None: as before.

    Raises
    ------
    ChangedMeanwhile
        The finding is at another revision.
    """
    try:
        row = tx.execute(
            "select record_decision(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [review_id, seen, action, reason, comment, reviewer, rule, assignee, due_at],
        ).fetchone()
    except psycopg.Error as error:
        if error.sqlstate == _CHANGED_MEANWHILE:
            raise ChangedMeanwhile(
                f"Finding {review_id} is not what you saw any more", hint="Look at it again, then decide."
            ) from error
        raise
    assert row is not None  # noqa: S101 - a select without a table has one row
    return int(row[0])


def verify(tx: Transaction, *, holding: str | None = None) -> Chain:
    """Compute the hash of every entry anew, from its own columns and the hash of the one before.

    Parameters
    ----------
    holding
        A head that somebody noted down: the chain must still have it.
    """
    previous, count, broken, known = "", 0, None, set[str]()
    with tx.cursor("chain") as cursor:
        for entry_id, previous_hash, found, *hashed in cursor.execute(_HASHED):
            count += 1
            is_whole = previous_hash == previous and entry_hash([previous, *hashed]) == found
            broken = entry_id if broken is None and not is_whole else broken
            previous = found
            known.add(found)
    if broken is None and holding and holding not in known:
        broken = 0
    return Chain(count, previous, broken)


def entry_hash(values: Sequence[str | None]) -> str:
    """Return the hex SHA-256 over an entry's texts as one JSON list, the hash of the entry before first."""
    return hashlib.sha256(json.dumps(list(values), ensure_ascii=False).encode()).hexdigest()


#: In the order of `decision_hash` in 0007_reviews.sql.
_HASHED: LiteralString = """
    select entry.id, entry.previous_hash, entry.hash,
        entry.kind, entry.subject, entry.other_subject, recipes.digest, entry.measure::text, entry.threshold::text,
        entry.evidence::text, entry.action, entry.status, entry.reason, entry.comment, entry.reviewer, entry.rule,
        entry.assignee, request.hash, entry.decided_by,
        to_char(entry.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')
    from decisions entry
    left join recipes on recipes.id = entry.recipe_id
    left join decisions request on request.id = entry.request_id
    order by entry.id
"""


def _entries(tx: Transaction, condition: LiteralString, parameters: Sequence[object]) -> list[LogEntry]:
    query = SQL(
        """
        select entry.id, entry.review_id, entry.kind, entry.subject, entry.other_subject,
            array_remove(array[version.name, other.name], null), entry.measure, entry.threshold, entry.action,
            entry.status, entry.reason, entry.comment, entry.reviewer, entry.rule, entry.assignee, entry.decided_by,
            entry.decided_at, entry.hash
        from decisions entry
        join model_versions version on version.id = entry.model_version_id
        left join model_versions other on other.id = entry.other_id
        where {}
        """
    ).format(SQL(condition))
    return [
        LogEntry(id_, review_id, FindingKind(kind), subject, other, tuple(models), measure, threshold,
            Action(action), Status(status), *rest)
        for id_, review_id, kind, subject, other, models, measure, threshold, action, status, *rest
        in tx.execute(query, parameters)
    ]  # fmt: skip


def _row(values: dict[str, Any], versions: dict[int, VersionRow], entries: dict[int, LogEntry]) -> ReviewRow:
    cause, newer, older = values["decided_cause"], values["model_version_id"], values["other_id"]
    decided_on = None if cause is None else Basis(values["decided_measure"], cause)
    return ReviewRow(
        id=values["id"],
        revision=values["revision"],
        finding=Finding(
            FindingKind(values["kind"]), newer, older, values["measure"], values["threshold"], values["evidence"]
        ),
        version=versions[newer],
        other=versions.get(older),
        review=Review(Status(values["status"]), decided_on, values["requested_by"] or ""),
        is_found=values["is_found"],
        severity=Severity(values["severity"]),
        assignee=values["assignee"],
        due_at=values["due_at"],
        first_seen=values["first_seen"],
        last_measured=values["last_measured"],
        status_since=values["status_since"],
        last=entries.get(values["decision_id"]),
    )
