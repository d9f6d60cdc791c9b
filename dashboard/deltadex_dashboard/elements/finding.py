"""Elements of one finding: text, numbers, evidence and history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import streamlit as st
from rich.filesize import decimal

from deltadex.duplicates.group_findings import MemberRole
from deltadex.findings.kinds import KINDS
from deltadex.reports.colors import SEVERITY_COLORS, STATUS_COLORS
from deltadex.reports.table import Table
from deltadex.reviews.lifecycle import UNDECIDED, Action
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.reviews.titles import title
from deltadex.types import FindingKind, VersionRow
from deltadex_dashboard.charts import overview as charts
from deltadex_dashboard.charts.drift import drift_chart, drift_words
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot

#: Smaller numbers are rounding: none of our units means anything there.
_SMALLEST = 5e-5
_ROLES: Mapping[MemberRole, str] = {
    MemberRole.KEEP: "keep",
    MemberRole.RETIRE: "retire",
    MemberRole.STAY: "leave as it is",
}
_DONE: Mapping[Action, str] = {
    Action.REQUESTED: "requested approval by a second person",
    Action.RETURNED: "reopened it, because what it rests on has changed",
    Action.CLOSED: "closed it, because its cause is gone",
    Action.RELEASED: "unassigned it",
    Action.ERASED: "erased a comment",
}


def headline(row: ReviewRow) -> str:
    """Return the title of a finding as Markdown."""
    return view.plain(title(row))


def badges(row: ReviewRow) -> str:
    """Return severity and status as Markdown."""
    status = row.review.status
    request = f" :orange-badge[waits for approval of {view.plain(row.review.requested_by)}'s request]"
    return (
        f":{SEVERITY_COLORS[row.severity].badge}-badge[{row.severity}] "
        f":{STATUS_COLORS[status].badge}-badge[{status.replace('_', ' ')}]{request if row.review.requested_by else ''}"
    )


def summary(row: ReviewRow) -> str:
    """Return the finding's kind and number in a line of Markdown."""
    name, number = f"**{KINDS[row.finding.kind].label}**", numbers(row)
    return f"{name}{f' · {number}' if number else ''}"


def numbers(row: ReviewRow) -> str:
    """Return the finding's number and threshold, or its reason if there is no number."""
    finding = row.finding
    if finding.measure is None:
        digest = str(finding.evidence.get("weights_digest") or "")
        return view.plain(str(finding.evidence.get("reason", ""))[:300]) or (f"weights {digest[:12]}" if digest else "")
    kind = KINDS[finding.kind]
    if kind.sentence:
        texts = {name: view.plain(str(value)) for name, value in finding.evidence.items()}
        return kind.sentence.format(**{**texts, "measure": finding.measure})
    limit = "" if finding.threshold is None else f", threshold {finding.threshold:g}"
    if cause := finding.evidence.get("differs"):
        limit += f" · {view.plain(str(cause))}"
    return f"{kind.unit or 'measured'} {finding.measure:.4f}{limit}"


def due(row: ReviewRow) -> str:
    """Return the deadline of a finding's decision; of a decided one, the time of the decision."""
    days = (row.due_at - datetime.now(UTC)).days
    if row.review.status not in UNDECIDED:
        return f"{row.review.status.replace('_', ' ')} {view.ago(row.status_since)}"
    if row.is_overdue:
        return f":red[**overdue by {-days} day{'s' * (days < -1)}**]"
    return f"due in {days} days" if days else "due today"


def evidence(now: Snapshot, row: ReviewRow) -> None:
    """Show the evidence of a finding: charts, versions and numbers."""
    if row.finding.measure is not None and row.finding.threshold is not None:
        unit = KINDS[row.finding.kind].unit or "measure"
        chart = charts.measure_chart(row.finding.measure, row.finding.threshold, unit=unit)
        st.altair_chart(chart, key="measure", alt=f"{unit} against its threshold")
    is_drift = row.finding.kind is FindingKind.DRIFT
    if drifted := reads.drift(now, row.version.registered.ref.name) if is_drift else None:
        chart = drift_chart(drifted, threshold=row.finding.threshold)
        st.altair_chart(chart, key="drift-evidence", alt=drift_words(drifted))
        for step, direction in drifted.directions.items():
            if drifted.versions[step + 1].id == row.version.id and direction.clusters:
                st.markdown(f"It moved {view.plain(direction.clusters)}.")
    if row.plan.members:
        _members(row)
    for role, version in zip(KINDS[row.finding.kind].concerns.roles, () if row.members else row.versions, strict=False):
        with st.container(border=True):
            _version(version, role)
    facts = {
        "reason": row.finding.evidence.get("reason"),
        **{
            name.replace("_", " "): decimal(value) if name.endswith("_bytes") and isinstance(value, int) else value
            for name, value in row.finding.evidence.items()
            if name not in ("reason", "members")
        },
        "first seen": view.utc(row.first_seen),
        "last measured": view.utc(row.last_measured),
        "still found": "yes" if row.is_found else "no",
    }
    texts = {name: _text(fact) for name, fact in facts.items() if fact}
    st.dataframe({"fact": list(texts), "value": list(texts.values())}, hide_index=True)


def _members(row: ReviewRow) -> None:
    """Show the versions of a group with their roles, and what speaks against retiring or keeping each."""
    versions = {version.id: version for version in row.members}
    for member in row.plan.members:
        with st.container(border=True):
            if member.id in versions:
                _version(versions[member.id], f"**{_ROLES[member.role]}**")
            facts = [member.why, f"weights {member.weights_digest[:12]}" if member.weights_digest else ""]
            if member.weights_bytes is not None:
                facts.append(decimal(member.weights_bytes))
            st.caption(" · ".join(view.plain(fact) for fact in facts if fact))


def _version(version: VersionRow, role: str) -> None:
    view.version_link(version)
    tags = version.registered.tags
    details = [f"team {view.plain(tags['team'])}" if tags.get("team") else "", view.alias_badges(version)]
    if version.registered.ref.created_ms:
        details.append(f"registered {version.registered_at:%Y-%m-%d}")
    st.caption(" · ".join([role, str(version.state), *filter(None, details)]))


def timeline(entries: Iterable[LogEntry], *, named: bool = False) -> None:
    """Show the log of one finding, or of several with their names, oldest entry first."""
    for entry in entries:
        name = f"{KINDS[entry.kind].label} · " if named else ""
        action = _DONE.get(entry.action, entry.action.replace("_", " "))
        if entry.action is Action.ASSIGNED:
            action = f"assigned it to {view.plain(entry.assignee)}"
        reason = f" · {entry.reason.replace('_', ' ')}" if entry.reason else ""
        rule = f" by the rule {view.plain(entry.rule)}" if entry.rule else ""
        st.markdown(f"**{view.plain(entry.reviewer)}** {action}{reason}{rule}")
        if entry.action is not Action.ASSIGNED and entry.plan.reason:
            st.markdown(view.plain(entry.plan.reason))
        for shown in entry.evidence.get("replays", ()):
            st.markdown(f"Replay {shown['replay']}: {view.plain(shown['verdict'])}")
        if entry.comment or entry.is_erased:
            st.markdown(f"> {view.plain(entry.comment) or '*The comment was erased.*'}")
        st.caption(f"{name}{view.utc(entry.decided_at)} · hash {entry.hash[:12]}")


def log_table(entries: Iterable[LogEntry]) -> Table:
    """Return the log as a table."""
    return Table(
        "activity",
        "Activity",
        ("at", "who", "did", "reason", "comment", "finding", "versions", "keep and retire", "measure", "rule", "hash"),
        tuple(
            (
                entry.decided_at,
                entry.reviewer,
                entry.action.replace("_", " "),
                entry.reason.replace("_", " "),
                entry.comment,
                f"{KINDS[entry.kind].label} ({entry.review_id})",
                ", ".join(entry.labels),
                entry.plan.reason,
                entry.measure,
                entry.rule,
                entry.hash[:16],
            )
            for entry in entries
        ),
    )


def _text(fact: object) -> str:
    if isinstance(fact, list):
        return ", ".join(map(_text, fact))
    if not isinstance(fact, float):
        return str(fact)
    return "0" if abs(fact) < _SMALLEST else f"{fact:.4g}"
