"""The overview page: what is new, what it means, and what waits for the person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st
from rich.filesize import decimal

from deltadex.escaping import markdown_hint
from deltadex.findings.kinds import KINDS
from deltadex.news.queries import note_visit
from deltadex.news.since import fullest_inboxes, news
from deltadex.reviews.lifecycle import RULINGS, UNDECIDED
from deltadex.reviews.worth import worth
from deltadex.types import State, VersionRow
from deltadex_dashboard.charts import bars
from deltadex_dashboard.charts.small_map import small_map
from deltadex_dashboard.elements import finding
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_MOST_LISTED = 8
#: Log entries that are read for the sentences and the weeks.
_LOGGED = 1_000


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Overview", "What is new, what it means, and what waits for you.")
    view.watcher(now)
    rows = reads.all_versions(now)
    if not rows:
        view.no_versions()
        return
    if any(row.registered.demo_registered_at for row in rows):
        st.caption(
            "Demo data: tags state when versions were registered, and ada and ben are made up. All else is measured."
        )
    _sentences(now, rows)
    _numbers(now, rows)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _attention(rows)
        _newest(rows)
        _trend(now, rows)
    with right:
        _map(now)
        _findings(now)
        _inboxes(now)


def _sentences(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    before = _last_visit(now)
    since = before or datetime.now(UTC) - timedelta(days=7)
    said = news(
        now.person, since, versions=rows, findings=reads.all_reviews(now), log=reads.log(now, _LOGGED),
        now=datetime.now(UTC),
    )  # fmt: skip
    with st.container(border=True):
        when = f"Since your last visit, {view.ago(before)}" if before else "In the last 7 days"
        st.markdown(f"**{when}:** {said.changed}.")
        st.markdown(f"**Open now:** {said.meaning}.")
        if said.to_do:
            st.markdown(f"**For you, {view.plain(now.person.name)}:** {said.to_do}.")
        if said.next is not None:
            label = f":blue[Begin with: {finding.headline(said.next)}]"
            st.page_link("screens/inbox.py", label=label, query_params={"finding": str(said.next.id)})


def _last_visit(now: Snapshot) -> datetime | None:
    """Return when the person's visit before this one ended; it is recorded once per browser tab."""
    if "last-visit" not in st.session_state:
        with now.transaction() as tx:
            st.session_state["last-visit"] = note_visit(tx, now.person, now.settings.registry)
    visit: datetime | None = st.session_state["last-visit"]
    return visit


def _numbers(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    counts = Counter(row.state for row in rows)
    undecided = sum(row.review.status in UNDECIDED for row in reads.all_reviews(now))
    saved = worth(reads.all_reviews(now), rows, now.settings.costs)
    numbers = (
        ("Model versions", f"{len(rows):,}", "models", "See the models"),
        ("Embedded", f"{counts[State.EMBEDDED] / len(rows):.0%}", "map", "See the map"),
        ("Need attention", str(sum(row.needs_attention for row in rows)), "system", "See the machines"),
        ("To decide", f"{undecided:,}", "inbox", "Open the inbox"),
        ("Could be freed", decimal(saved.freed_bytes) if saved.freed_bytes else "–", "duplicates",
         "See the groups"),
    )  # fmt: skip
    for column, (label, value, screen, link) in zip(st.columns(len(numbers)), numbers, strict=True):
        with column, st.container(border=True):
            st.metric(label, value)
            st.page_link(f"screens/{screen}.py", label=f":blue[{link}]")
    money = saved.in_words(now.settings.costs.currency)
    if saved.share and saved.freed_bytes:
        worth_it = f", worth {view.plain(money)}" if money else ""
        st.caption(f"What could be freed is {saved.share:.1%} of all bytes in the registry{worth_it}.")
    st.html(bars.states_bar(counts))


def _attention(rows: Sequence[VersionRow]) -> None:
    st.subheader("Needs attention")
    waiting = sorted((row for row in rows if row.needs_attention), key=lambda row: row.state_since)[::-1]
    if not waiting:
        st.caption("None: every version is embedded or in progress.")
    for row in waiting[:_MOST_LISTED]:
        with st.container(border=True):
            _row_head(row)
            st.markdown(view.plain(row.reason) or "No reason is recorded.")
            if row.hint:
                st.caption(markdown_hint(row.hint))
    if len(waiting) > _MOST_LISTED:
        st.caption(f"And {len(waiting) - _MOST_LISTED} more: `deltadex status` lists all of them.")


def _newest(rows: Sequence[VersionRow]) -> None:
    st.subheader("Newest versions")
    for row in sorted(rows, key=lambda row: (row.registered.ref.created_ms, row.id))[::-1][:_MOST_LISTED]:
        _row_head(row)


def _row_head(row: VersionRow) -> None:
    name, state, registered = st.columns([5, 2, 2], vertical_alignment="center")
    with name:
        view.version_link(row)
    state.markdown(view.state_badge(row.state))
    registered.caption(view.ago(row.registered_at))


def _findings(now: Snapshot) -> None:
    st.subheader("To decide")
    undecided = [one for one in reads.all_reviews(now) if one.review.status in UNDECIDED]
    if not undecided:
        st.caption("None: findings are made when versions are embedded.")
        return
    counts = Counter(one.finding.kind for one in undecided)
    for kind, row in KINDS.items():
        if counts[kind]:
            link, count, more = st.columns([4, 1, 2], vertical_alignment="center")
            link.page_link("screens/inbox.py", label=f":blue[{row.label}]", query_params={"kind": row.label})
            count.markdown(f"**{counts[kind]:,}**")
            if row.page:
                more.page_link(f"screens/{row.page}.py", label=":gray[show all]")


def _map(now: Snapshot) -> None:
    recipes = reads.recipes(now)
    if recipes and recipes[0].embedded > 1:
        chart = reads.chart(now, recipes[0].id)
        st.html(small_map(chart))
        elsewhere = int(chart.lies_elsewhere.sum())
        note = f"; {elsewhere} in a ring: elsewhere than declared" if elsewhere else ""
        st.page_link("screens/map.py", label=f":blue[Map of {len(chart.rows):,} versions{note}]")


def _inboxes(now: Snapshot) -> None:
    fullest = fullest_inboxes(reads.all_reviews(now))
    if not fullest:
        return
    st.subheader("Fullest inboxes")
    for name, count in fullest:
        link, number = st.columns([4, 1], vertical_alignment="center")
        link.page_link("screens/inbox.py", label=f":blue[{view.plain(name)}]", query_params={"assignee": name})
        number.markdown(f"**{count:,}**")


def _trend(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    st.subheader("Week by week")
    decided = [entry.decided_at for entry in reads.log(now, _LOGGED) if entry.action in RULINGS]
    st.html(bars.weeks_bars(bars.weeks(rows, decided, now=datetime.now(UTC))))


show(snapshot())
