"""One finding: in words, with its numbers, and what people did about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import streamlit as st

from deltadex.domain import FindingKind
from deltadex.governance.access import HIDDEN
from deltadex.governance.lifecycle import UNDECIDED, Action, Severity, Status
from deltadex.governance.report import Table
from deltadex.store.reviews import LogEntry, ReviewRow
from deltadex_dashboard import charts, reads, view
from deltadex_dashboard.drift_charts import drift_chart, drift_words
from deltadex_dashboard.snapshots import Snapshot

STATUS_COLORS: Mapping[Status, str] = {
    Status.OPEN: "blue",
    Status.IN_REVIEW: "violet",
    Status.ACCEPTED: "green",
    Status.DISMISSED: "gray",
    Status.FIXED: "green",
}
#: A word as well as a colour.
SEVERITY_COLORS: Mapping[Severity, str] = {Severity.HIGH: "red", Severity.MEDIUM: "orange", Severity.LOW: "gray"}
_MEASURES: Mapping[FindingKind, str] = {
    FindingKind.NEAR_DUPLICATE: "cosine similarity",
    FindingKind.SAME_TASK: "cosine similarity",
    FindingKind.DRIFT: "cosine distance",
    FindingKind.TOO_WEAK: "strength",
    FindingKind.WRONG_BASE: "relative distance of the weights",
}
_DONE: Mapping[Action, str] = {
    Action.REQUESTED: "asked for a second person's approval",
    Action.RETURNED: "opened it again, because what it rests on moved",
    Action.CLOSED: "closed it, because its cause is gone",
    Action.RELEASED: "gave it back",
}


def subject(row: ReviewRow) -> str:
    """Return the versions that a finding is about, as Markdown."""
    return " and ".join(f"**{view.plain(_label(version.label))}**" for version in row.versions)


def badges(row: ReviewRow) -> str:
    """Return severity and status as Markdown."""
    status = row.review.status
    asked = f" :orange-badge[waits for approval of {view.plain(row.review.requested_by)}'s request]"
    return (
        f":{SEVERITY_COLORS[row.severity]}-badge[{row.severity}] "
        f":{STATUS_COLORS[status]}-badge[{status.replace('_', ' ')}]{asked if row.review.requested_by else ''}"
    )


def summary(row: ReviewRow) -> str:
    """Return what was found in a line of Markdown."""
    name, number = f"**{view.FINDING_NAMES[row.finding.kind]}**", numbers(row)
    return f"{name}{f' · {number}' if number else ''}"


def numbers(row: ReviewRow) -> str:
    """Return the number that was found and its threshold, or the reason where there is no number."""
    finding = row.finding
    if finding.measure is None:
        return view.plain(str(finding.evidence.get("reason", ""))[:300])
    if finding.kind is FindingKind.LABEL_CONTRADICTED:
        declared, moves_like = (view.plain(str(finding.evidence[key])) for key in ("declared", "moves_like"))
        return f"tagged {declared}, moves like {moves_like}: closer by {finding.measure:.2f} in similarity"
    limit = "" if finding.threshold is None else f", threshold {finding.threshold:g}"
    return f"{_MEASURES.get(finding.kind, 'measured')} {finding.measure:.4f}{limit}"


def due(row: ReviewRow) -> str:
    """Return when a finding should be decided, and whether that is past."""
    days = (row.due_at - datetime.now(UTC)).days
    if row.review.status not in UNDECIDED:
        return f"{row.review.status.replace('_', ' ')} {view.ago(row.status_since)}"
    return f"overdue by {-days} days" if days < 0 else f"due in {days} days" if days else "due today"


def evidence(now: Snapshot, row: ReviewRow) -> None:
    """Show what a finding rests on: a picture, the numbers, the versions."""
    if row.finding.measure is not None and row.finding.threshold is not None:
        what = _MEASURES.get(row.finding.kind, "measure")
        chart = charts.measure_chart(row.finding.measure, row.finding.threshold, what=what)
        st.altair_chart(chart, key="measure", alt=f"{what} against its threshold")
    is_drift = row.finding.kind is FindingKind.DRIFT
    if drifted := reads.drift(now, row.version.registered.ref.name) if is_drift else None:
        threshold = row.finding.threshold or now.settings.thresholds.drift_distance
        st.altair_chart(drift_chart(drifted, threshold=threshold), key="drift-evidence", alt=drift_words(drifted))
        for place, towards in drifted.towards.items():
            if drifted.versions[place + 1].id == row.version.id and towards.clusters:
                st.markdown(f"It moved {view.plain(towards.clusters)}.")
    for role, version in zip(
        ("newer version" if row.other else "version", "older version"), row.versions, strict=False
    ):
        with st.container(border=True):
            view.version_link(version)
            tags = version.registered.tags
            known = [f"team {view.plain(tags['team'])}" if tags.get("team") else "", view.alias_badges(version)]
            if version.registered.ref.created_ms:
                known.append(f"registered {view.registered_at(version):%Y-%m-%d}")
            st.caption(" · ".join([role, str(version.state), *filter(None, known)]))
    facts = {
        "reason": row.finding.evidence.get("reason"),
        **{name.replace("_", " "): value for name, value in row.finding.evidence.items() if name != "reason"},
        "weights digest": row.version.weights_digest if row.finding.kind is FindingKind.EXACT_DUPLICATE else None,
        "first seen": view.utc(row.first_seen),
        "last measured": view.utc(row.last_measured),
        "still found": "yes" if row.is_found else "no",
    }
    said = {name: _said(fact) for name, fact in facts.items() if fact}
    st.dataframe({"fact": list(said), "value": list(said.values())}, hide_index=True)


def timeline(entries: Iterable[LogEntry], *, named: bool = False) -> None:
    """Show what was done about one finding, or about several with their names, oldest first."""
    for entry in entries:
        name = f"{view.FINDING_NAMES[entry.kind]} · " if named else ""
        said = _DONE.get(entry.action, entry.action.replace("_", " "))
        if entry.action is Action.ASSIGNED:
            said = f"gave it to {view.plain(entry.assignee)}"
        why = f" · {entry.reason.replace('_', ' ')}" if entry.reason else ""
        rule = f" by the rule {view.plain(entry.rule)}" if entry.rule else ""
        st.markdown(f"**{view.plain(entry.reviewer)}** {said}{why}{rule}")
        if entry.comment:
            st.markdown(f"> {view.plain(entry.comment)}")
        st.caption(f"{name}{view.utc(entry.decided_at)} · hash {entry.hash[:12]}")


def log_table(entries: Iterable[LogEntry]) -> Table:
    """Return the log as a table."""
    return Table(
        "activity",
        "Activity",
        ("at", "who", "did", "reason", "comment", "finding", "versions", "measure", "rule", "hash"),
        tuple(
            (
                entry.decided_at,
                entry.reviewer,
                entry.action.replace("_", " "),
                entry.reason.replace("_", " "),
                entry.comment,
                f"{view.FINDING_NAMES[entry.kind]} ({entry.review_id})",
                ", ".join(_subject(one) for one in (entry.subject, entry.other_subject) if one),
                entry.measure,
                entry.rule,
                entry.hash[:16],
            )
            for entry in entries
        ),
    )


def _said(fact: object) -> str:
    if isinstance(fact, list):
        return ", ".join(map(_said, fact))
    return f"{fact:.4g}" if isinstance(fact, float) else str(fact)


def _subject(written: str) -> str:
    """Return `name/version` of `registry:name/version@creation time`."""
    return written.partition(":")[2].rpartition("@")[0] or written


def _label(label: str) -> str:
    return HIDDEN if label.startswith(HIDDEN) else label
