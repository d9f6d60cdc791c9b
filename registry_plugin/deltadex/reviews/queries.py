"""Queries of reviews and of the decision log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.duplicates.group_findings import GroupPlan
from deltadex.errors import FindingChanged
from deltadex.findings.kinds import Concerns, Reason, Severity, kinds_about
from deltadex.reviews.lifecycle import RULINGS, UNDECIDED, Action, Basis, Review, Status
from deltadex.store.database import Transaction
from deltadex.types import Finding, FindingKind, RiskTier, VersionRow
from deltadex.versions.queries import by_ids

#: SQLSTATE of `record_decision` for an outdated revision.
_CHANGED_MEANWHILE = "DX001"
#: Hint of `FindingChanged`.
LOOK_AGAIN = "Look at it again, then decide."


@dataclass(frozen=True)
class LogEntry:
    """One entry of the decision log: an action on a finding, with its author, time and numbers.

    Attributes
    ----------
    subject, other_subject
        `registry:name/version@creation time`, with the versions' names at the time of the decision.
    models
        Current names of the registered models concerned.
    rule
        The delegated rule that decided in the reviewer's name; empty if the reviewer decided.
    identity
        What the reviewer cannot choose: issuer and subject of a login, or a user of a machine or of the database.
    is_erased
        True if the comment was erased on request.
    decided_by
        The database user that recorded the entry.
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
    identity: str
    rule: str
    assignee: str
    decided_by: str
    decided_at: datetime
    hash: str
    is_erased: bool
    evidence: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def plan(self) -> GroupPlan:
        """For a group: its members and their roles, as they were decided."""
        return GroupPlan.of(self.evidence)

    @property
    def labels(self) -> tuple[str, ...]:
        """`name/version` of the versions concerned at the time of the decision; a masked subject stays as it is."""
        if self.evidence.get("members"):
            return tuple(one.version for one in self.plan.members)
        return self._subjects

    @property
    def names(self) -> frozenset[str]:
        """Names of the registered models concerned, of now and of then."""
        labels = (*self.labels, *self._subjects)
        return frozenset(self.models).union(label.rpartition("/")[0] for label in labels)

    @property
    def _subjects(self) -> tuple[str, ...]:
        subjects = (self.subject, self.other_subject)
        return tuple(one.partition(":")[2].rpartition("@")[0] or one for one in subjects if one)


@dataclass(frozen=True)
class ReviewRow:
    """A finding with its review.

    Attributes
    ----------
    revision
        Number that increases with every change: a decision names the revision that its author saw.
    finding
        The finding with its latest numbers, even if it is no longer found.
    other
        The older version of a pair.
    members
        The versions of a group, the oldest first; empty for a finding about one version or a pair.
    ruling
        The latest request or decision, which may be void since; None if there is none.
    last
        The latest log entry; None if there is none.
    last_measured
        Time of the latest measurement that found it.
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
    ruling: LogEntry | None = None
    members: tuple[VersionRow, ...] = ()

    @property
    def owner(self) -> str:
        """The owner of the version, or of the oldest one of a group; empty if unknown."""
        return self.versions[0].registered.owner or ""

    @property
    def tier(self) -> RiskTier | None:
        """The highest risk tier among the models concerned; None if none has one."""
        return min(
            (version.registered.tier for version in self.versions if version.registered.tier),
            key=list(RiskTier).index,
            default=None,
        )

    @property
    def versions(self) -> tuple[VersionRow, ...]:
        """The versions concerned, the newer one of a pair first, the oldest one of a group."""
        return self.members or ((self.version,) if self.other is None else (self.version, self.other))

    @property
    def is_overdue(self) -> bool:
        """True if nobody has decided it by its due date."""
        return self.review.status in UNDECIDED and self.due_at < datetime.now(UTC)

    @property
    def is_retiring(self) -> bool:
        """True if the latest request or decision is to retire; it may be void since."""
        return self.ruling is not None and self.ruling.reason == Reason.RETIRE

    @cached_property
    def plan(self) -> GroupPlan:
        """For a group: whom to keep and retire, as it was decided or asked for, or else as it is proposed."""
        is_ruled = self.review.status in (Status.ACCEPTED, Status.FIXED) or self.review.requested_by
        ruling = self.ruling if is_ruled and self.ruling is not None else None
        return ruling.plan if ruling is not None and ruling.plan.members else GroupPlan.of(self.finding.evidence)


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
            select reviews.*, request.reviewer as requested_by, member_ids(reviews.evidence) as members, (
                select max(id) from decisions where review_id = reviews.id and action = any(%(rulings)s)) as ruling_id
            from reviews
            join model_versions on model_versions.id = reviews.model_version_id
            left join decisions request on request.id = reviews.request_id
            where registry = %(registry)s and reviews.status = any(%(statuses)s) and reviews.kind = any(%(kinds)s)
                and (%(ids)s::bigint[] is null or reviews.id = any(%(ids)s))
                and (%(version)s::bigint is null or %(version)s in (reviews.model_version_id, reviews.other_id)
                    or %(version)s = any(member_ids(reviews.evidence))
                    or reviews.kind = any(%(of_models)s) and name = (
                        select asked.name from model_versions asked where asked.id = %(version)s))
            order by array_position('{high,medium,low}', severity), due_at, reviews.id
            """,
            {
                "registry": registry,
                "statuses": list(statuses),
                "kinds": list(kinds),
                "ids": None if ids is None else list(ids),
                "version": version_id,
                "of_models": list(kinds_about(Concerns.MODEL)),
                "rulings": list(RULINGS),
            },
        ).fetchall()
    pairs = {one[key] for one in found for key in ("model_version_id", "other_id") if one[key]}
    versions = by_ids(tx, sorted(pairs.union(*(one["members"] for one in found))))
    entry_ids = [one[key] for one in found for key in ("decision_id", "ruling_id")]
    entries = {entry.id: entry for entry in _entries(tx, "entry.id = any(%s)", [entry_ids])}
    return [_row(values, versions, entries) for values in found]


def history(tx: Transaction, *review_ids: int) -> list[LogEntry]:
    """Return the log entries of some findings, oldest first."""
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
    """Return log entries, newest first, optionally only those of one reviewer or rule, or since a time."""
    return _entries(
        tx,
        """
        version.registry = %s and (%s::text is null or reviewer = %s) and (%s::text is null or entry.rule = %s)
        and (%s::timestamptz is null or decided_at >= %s) order by entry.id desc limit %s
        """,
        [registry, reviewer, reviewer, rule, rule, since, since, limit],
    )


def count_by_rule(tx: Transaction, registry: str, rule: str) -> int:
    """Return the number of log entries of a delegated rule."""
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
    identity: str = "",
    reason: str = "",
    comment: str = "",
    rule: str = "",
    assignee: str | None = None,
    due_at: datetime | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> int:
    """Append an entry to the log and update the review; return the entry's id.

    Parameters
    ----------
    seen
        The revision that the author saw.
    reviewer, identity
        Who decides; `identity` defaults to the name. Only the login of the dashboard and the owner of the tables may
        say so: for every other login, the database records that login's user in place of both.
    assignee, due_at
        None leaves them unchanged.
    chosen
        For a group: the plan that its author chose in place of the proposal.

    Raises
    ------
    ChangedMeanwhile
        The finding is at another revision.
    """
    try:
        row = tx.execute(
            "select record_decision(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                review_id,
                seen,
                action,
                reason,
                comment,
                reviewer,
                rule,
                assignee,
                due_at,
                identity,
                Jsonb(dict(chosen or {})),
            ],
        ).fetchone()
    except psycopg.Error as error:
        if error.sqlstate == _CHANGED_MEANWHILE:
            raise FindingChanged(f"Finding {review_id} has changed: it is not what you saw", hint=LOOK_AGAIN) from error
        raise
    assert row is not None  # noqa: S101 - a select without a table has one row
    return int(row[0])


def entry(tx: Transaction, entry_id: int) -> LogEntry | None:
    """Return one entry of the log; None if there is none with this id."""
    return next(iter(_entries(tx, "entry.id = %s", [entry_id])), None)


def about(tx: Transaction, version_id: int) -> list[LogEntry]:
    """Return the log entries about a version, alone, in a pair or as a member of a group then; oldest first."""
    condition: LiteralString = (
        "(%s in (entry.model_version_id, entry.other_id) or %s = any(member_ids(entry.evidence)))"
    )
    return _entries(tx, condition + " order by entry.id", [version_id, version_id])


def erase(tx: Transaction, entry_id: int, *, reviewer: str, identity: str, reason: str) -> int:
    """Erase the comment of an entry, and return the id of the entry that says so."""
    row = tx.execute("select erase_text(%s, %s, %s, %s)", [entry_id, reviewer, identity, reason]).fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    return int(row[0])


def _entries(tx: Transaction, condition: LiteralString, parameters: Sequence[object]) -> list[LogEntry]:
    query = SQL(
        """
        select entry.id, entry.review_id, entry.kind, entry.subject, entry.other_subject,
            array(select distinct name from model_versions
                where id in (version.id, other.id) or id = any(member_ids(entry.evidence)) order by name),
            entry.measure, entry.threshold, entry.action,
            entry.status, entry.reason, entry.comment, entry.reviewer, entry.identity, entry.rule, entry.assignee,
            entry.decided_by, entry.decided_at, entry.hash, entry.salt is null, entry.evidence
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
        ruling=entries.get(values["ruling_id"]),
        members=tuple(versions[each] for each in values["members"] if each in versions),
    )
