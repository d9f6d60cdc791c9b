"""Sentences of the overview: changes since a moment, open findings, and what waits for a person. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from deltadex.access import Person, Right
from deltadex.findings.kinds import KINDS, Severity
from deltadex.reviews.lifecycle import RULINGS, UNDECIDED, Action
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.types import FindingKind, State, VersionRow

_RANK = list(Severity)


@dataclass(frozen=True)
class News:
    """News for one person.

    Attributes
    ----------
    changed
        What has happened: registrations, findings, decisions.
    meaning
        What is wrong now, the most severe first.
    to_do
        What waits for the person.
    next
        The finding that the person should look at first; None if none waits.
    """

    changed: str
    meaning: str
    to_do: str
    next: ReviewRow | None


def news(
    person: Person,
    since: datetime,
    *,
    versions: Sequence[VersionRow],
    findings: Sequence[ReviewRow],
    log: Sequence[LogEntry],
    now: datetime,
) -> News:
    """Return the news since a moment.

    Parameters
    ----------
    findings
        All findings, the most severe first, as the person may see them.
    log
        Log entries since then.
    """
    undecided = [row for row in findings if row.review.status in UNDECIDED and row.is_found]
    mine = [row for row in undecided if _waits_for(person, row)]
    urgent = sorted(mine or undecided, key=lambda row: (_RANK.index(row.severity), row.due_at))
    return News(
        _changed(since, versions, findings, log),
        _meaning(versions, undecided),
        _to_do(person, mine, now),
        urgent[0] if urgent else None,
    )


def fullest_inboxes(findings: Sequence[ReviewRow], *, most: int = 5) -> list[tuple[str, int]]:
    """Return who has most undecided findings: the assignee, or else the owner of the version."""
    counts = Counter(
        row.assignee or row.owner for row in findings if row.review.status in UNDECIDED and (row.assignee or row.owner)
    )
    return counts.most_common(most)


def _waits_for(person: Person, row: ReviewRow) -> bool:
    """Return True if a person can go on with a finding: by an approval, or because it is assigned to them."""
    if row.review.requested_by:
        return row.review.requested_by != person.name and person.may(Right.APPROVE)
    return row.assignee == person.name


def _changed(
    since: datetime, versions: Sequence[VersionRow], findings: Sequence[ReviewRow], log: Sequence[LogEntry]
) -> str:
    new = [row for row in versions if row.registered_at >= since]
    models = len({row.registered.ref.name for row in new})
    opened = sum(row.first_seen >= since for row in findings)
    entries = [entry for entry in log if entry.decided_at >= since]
    decided = sum(entry.action in RULINGS for entry in entries)
    closed = sum(entry.action is Action.CLOSED for entry in entries)
    parts = [
        f"{_count(len(new), 'version')} registered in {_count(models, 'model')}" if new else "",
        _count(opened, "new finding") if opened else "",
        _count(decided, "decision") if decided else "",
        f"{_count(closed, 'finding')} closed because the cause is gone" if closed else "",
    ]
    return ", ".join(filter(None, parts)) or "nothing has changed"


def _meaning(versions: Sequence[VersionRow], undecided: Sequence[ReviewRow]) -> str:
    counts = Counter(row.finding.kind for row in undecided)
    under_way = sum(row.state in (State.DISCOVERED, State.QUEUED, State.RUNNING) for row in versions)
    ranked = sorted(counts, key=lambda kind: (_RANK.index(KINDS[kind].severity), list(FindingKind).index(kind)))
    parts = [f"{counts[kind]} × {KINDS[kind].label.lower()}" for kind in ranked[:3]]
    if under_way:
        parts.append(f"{_count(under_way, 'version')} still to be embedded")
    return ", ".join(parts) or "nothing: every version is embedded, and no finding is undecided"


def _to_do(person: Person, mine: Sequence[ReviewRow], now: datetime) -> str:
    approvals = sum(bool(row.review.requested_by) for row in mine)
    assigned = len(mine) - approvals
    overdue = sum(row.due_at < now for row in mine)
    parts = [
        f"{_count(approvals, 'request')} for your approval" if approvals else "",
        f"{_count(assigned, 'finding')} assigned to you" if assigned else "",
        f"{overdue} overdue" if overdue else "",
    ]
    said = ", ".join(part for part in parts if part)
    if said or not person.may(Right.DECIDE):
        return said
    return "nothing is assigned to you"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
