"""The inbox: the list of findings with filters, and one finding with its evidence and decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from deltadex.access import Right
from deltadex.findings.kinds import KINDS, Severity
from deltadex.reports.table import Table
from deltadex.reviews.filters import FindingFilter, FindingOrder, ordered, values_of
from deltadex.reviews.lifecycle import UNDECIDED, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title
from deltadex_dashboard.elements import decision_form as decisions
from deltadex_dashboard.elements import finding, replay
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_PER_PAGE = 15
_UNDECIDED, _ALL = "undecided", "all"
_UNASSIGNED, _MINE = "unassigned", "mine"
_ANY = "any"
#: Saved views: what is behind each link, as query parameters.
_VIEWS: Mapping[str, Mapping[str, str]] = {
    "Everything undecided": {},
    "Mine": {"assignee": _MINE},
    "Waits for approval": {"status": "in_review"},
    "High severity": {"severity": "high"},
    "Due first": {"order": FindingOrder.DUE.value},
    "Groups that free most": {"order": FindingOrder.LARGEST.value},
    "Decided": {"status": "accepted"},
}


def show(now: Snapshot) -> None:
    """Draw the page."""
    chosen = st.query_params.get("finding", "")
    rows = reads.all_reviews(now)
    if chosen:
        _one(now, next((row for row in rows if str(row.id) == chosen), None))
    else:
        _list(now, rows)


def _list(now: Snapshot, rows: Sequence[ReviewRow]) -> None:
    rights = "you decide and approve" if now.person.may(Right.APPROVE) else "you decide"
    rights = rights if now.person.may(Right.DECIDE) else "you look"
    view.heading("Inbox", f"Findings to decide. You are {view.plain(now.person.name)}, {now.person.role}: {rights}.")
    decisions.outcome()
    if not rows:
        view.empty("There are no findings.", "Findings are made when versions are embedded.")
        return
    with st.container(horizontal=True):
        for name, query in _VIEWS.items():
            st.page_link("screens/inbox.py", label=f":blue[{name}]", query_params=query)
    matching = _filtered(now, rows)
    undecided = sum(row.review.status in UNDECIDED for row in rows)
    overdue = sum(row.is_overdue for row in rows)
    st.caption(f"{len(matching):,} of {len(rows):,} findings · {undecided:,} undecided · {overdue:,} overdue")
    if not matching:
        view.empty("No finding matches the filters.", "Remove a filter above.")
        return
    pages = -(-len(matching) // _PER_PAGE)
    page = min(int(st.session_state.get("page", 1)), pages) if pages > 1 else 1
    shown = matching[(page - 1) * _PER_PAGE : page * _PER_PAGE]
    bar = st.container(key="inbox-bar")
    marked = {row.id: row.revision for row in shown if _line(row)}
    if pages > 1:
        left, _ = st.columns([1, 4])
        left.number_input(f"Page of {pages}", 1, pages, key="page", bind="query-params")
    with bar:
        _bar(now, shown, [row for row in shown if row.id in marked])
    with st.expander("As a table"):
        view.table(_table(matching))


def _bar(now: Snapshot, shown: Sequence[ReviewRow], marked: Sequence[ReviewRow]) -> None:
    """Show the bar that stays in view: mark all, and the form for what is marked."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Mark all on this page", key="mark-all", on_click=_mark, args=(shown, True), type="tertiary")
        if marked:
            st.button("Mark none", key="mark-none", on_click=_mark, args=(shown, False), type="tertiary")
            with st.popover(f"Decide or assign the {len(marked)} marked"):
                decisions.bulk(now, marked)


def _mark(rows: Sequence[ReviewRow], is_marked: bool) -> None:
    for row in rows:
        st.session_state[f"mark-{row.id}"] = is_marked


def _filtered(now: Snapshot, rows: Sequence[ReviewRow]) -> list[ReviewRow]:
    words, order = st.columns([4, 1])
    text = words.text_input("Search", key="text", bind="query-params", placeholder="model, owner or word of a title")
    sort = order.selectbox("Order", list(FindingOrder), key="order", bind="query-params")
    status, kind, severity, person = st.columns(4)
    wanted = status.selectbox(
        "Status", [_UNDECIDED, _ALL, *Status], key="status", bind="query-params", format_func=_without_underscores
    )
    kinds = list(dict.fromkeys(row.finding.kind for row in rows))
    of_kind = kind.selectbox(
        "Kind", [_ANY, *sorted(kinds)], key="kind", bind="query-params",
        format_func=lambda kind: kind if kind == _ANY else KINDS[kind].label,
    )  # fmt: skip
    of_severity = severity.selectbox("Severity", [_ANY, *Severity], key="severity", bind="query-params")
    people = sorted({name for row in rows for name in (row.assignee, row.owner) if name})
    assignee = person.selectbox("Assigned to", [_ANY, _MINE, _UNASSIGNED, *people], key="assignee", bind="query-params")
    is_used = any(name in st.query_params for name in ("owner", "team", "domain", "older"))
    with st.expander("More conditions", expanded=is_used):
        owner, team, domain, age = st.columns(4)
        tagged = {
            name: column.selectbox(name.capitalize(), [_ANY, *values_of(rows, name)], key=name, bind="query-params")
            for name, column in (("owner", owner), ("team", team), ("domain", domain))
        }
        days = age.number_input("Older than days", 0, key="older", bind="query-params")
    conditions = FindingFilter(
        text=text,
        assignee={_ANY: None, _MINE: now.person.name, _UNASSIGNED: ""}.get(assignee, assignee),
        older_than_days=int(days),
        **{name: "" if value == _ANY else value for name, value in tagged.items()},
    )
    found = [
        row
        for row in rows
        if _is_in(row.review.status, wanted)
        and of_kind in (_ANY, row.finding.kind)
        and of_severity in (_ANY, row.severity)
        and conditions.matches(row)
    ]
    return ordered(found, FindingOrder(sort or FindingOrder.URGENT))


def _is_in(status: Status, wanted: str) -> bool:
    return wanted == _ALL or status == wanted or (wanted == _UNDECIDED and status in UNDECIDED)


def _without_underscores(text: str) -> str:
    return text.replace("_", " ")


def _line(row: ReviewRow) -> bool:
    """Show one finding in the list; return True if it is marked."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        marked = st.checkbox(f"Mark finding {row.id}", key=f"mark-{row.id}", label_visibility="collapsed")
        with st.container():
            st.markdown(f"{finding.badges(row)} **{finding.headline(row)}**")
            assignee = [view.plain(row.assignee)] if row.assignee else []
            st.caption(" · ".join([finding.summary(row), finding.due(row), *assignee]))
        _link("Review", finding=str(row.id))
    return marked


def _link(label: str, **query: str) -> None:
    """Show a link within the inbox that keeps the filters: a step that Back undoes."""
    kept = {name: value for name, value in st.query_params.to_dict().items() if name != "finding"}
    st.page_link("screens/inbox.py", label=f":blue[{label}]", query_params={**kept, **query})


def _one(now: Snapshot, row: ReviewRow | None) -> None:
    if row is None:
        view.heading("Inbox", "One finding.")
        view.empty("This finding does not exist.", "The link may be from another registry.")
        _link("All findings")
        return
    _link("← All findings")
    st.title(finding.headline(row))
    st.markdown(f"{finding.badges(row)} {KINDS[row.finding.kind].label}")
    owner = f"owner {view.plain(row.owner)}" if row.owner else "no owner"
    assigned = f"assigned to {view.plain(row.assignee)}" if row.assignee else "unassigned"
    tier = row.tier and f"{row.tier} risk"
    facts = (finding.numbers(row), f"found {view.ago(row.first_seen)}", finding.due(row), tier, owner, assigned)
    st.caption(" · ".join(filter(None, facts)))
    decisions.outcome()
    left, right = st.columns([3, 2], gap="large")
    with right:
        decisions.one(now, row)
        st.subheader("History")
        entries = reads.history(now, row.id)
        finding.timeline(entries)
        if not entries:
            st.caption("There are no entries yet.")
    with left:
        st.subheader("Evidence")
        finding.evidence(now, row)
        replay.show(now, row)


def _table(rows: Sequence[ReviewRow]) -> Table:
    columns: Mapping[str, object] = dict.fromkeys(
        ("finding", "kind", "severity", "status", "title", "keep and retire", "measure", "threshold", "owner",
         "assigned to", "due", "first seen")
    )  # fmt: skip
    return Table(
        "reviews",
        "Reviews",
        tuple(columns),
        tuple(
            (
                row.id, KINDS[row.finding.kind].words, row.severity.value, row.review.status.replace("_", " "),
                title(row), row.plan.reason, row.finding.measure, row.finding.threshold,
                row.owner, row.assignee, row.due_at, row.first_seen,
            )
            for row in rows
        ),
    )  # fmt: skip


show(snapshot())
