"""How many versions stand where, what needs attention, and whether the registry is being read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st
from rich.filesize import decimal

from deltadex.domain import UNDER_WAY, FindingKind, State, VersionRow
from deltadex.governance.lifecycle import UNDECIDED
from deltadex_dashboard import bars, reads, view
from deltadex_dashboard.snapshots import Snapshot, snapshot

_MOST_LISTED = 8
_FINDING_PAGES = {
    FindingKind.EXACT_DUPLICATE: "duplicates",
    FindingKind.NEAR_DUPLICATE: "duplicates",
    FindingKind.SAME_TASK: "duplicates",
    FindingKind.DRIFT: "drift",
}


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Overview", "What every finetune in the registry does, and what needs a person.")
    view.watcher(now)
    rows = reads.all_versions(now)
    if not rows:
        view.no_versions()
        return
    _numbers(now, rows)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _attention(rows)
        _newest(rows)
    with right:
        _findings(now)
        _trend(rows)
        _recipes(now)


def _numbers(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    counts = Counter(row.state for row in rows)
    embedded = counts[State.EMBEDDED]
    numbers = {
        "Model versions": f"{len(rows):,}",
        "Registered models": f"{len({row.registered.ref.name for row in rows}):,}",
        "Embedded": f"{embedded / len(rows):.0%}",
        "On their way": str(sum(counts[state] for state in UNDER_WAY)),
        "Need attention": str(sum(_needs_attention(row) for row in rows)),
        "To decide": f"{sum(row.review.status in UNDECIDED for row in reads.all_reviews(now)):,}",
    }
    *columns, last = st.columns(len(numbers) + 1)
    for column, (label, value) in zip(columns, numbers.items(), strict=True):
        column.metric(label, value, border=True)
    freed = reads.freed(now)
    last.metric(
        "Could be freed", decimal(freed) if freed else "–", border=True,
        help="By retiring exact and near duplicates, as far as findings tell; the duplicates page adds what newer "
        "versions of the same model supersede.",
    )  # fmt: skip
    st.html(bars.states_bar(counts))


def _needs_attention(row: VersionRow) -> bool:
    """Whether a person should look: an unsupported version without a hint, such as a base model, is as it should be."""
    return row.state in (State.WAITING, State.FAILED) or (row.state is State.UNSUPPORTED and bool(row.hint))


def _attention(rows: Sequence[VersionRow]) -> None:
    st.subheader("Needs attention")
    troubled = sorted(filter(_needs_attention, rows), key=lambda row: row.state_since)[::-1]
    if not troubled:
        st.caption("Nothing: every version is embedded or on its way.")
    for row in troubled[:_MOST_LISTED]:
        with st.container(border=True):
            _row_head(row)
            st.markdown(view.plain(row.reason) or "No reason was given.")
            if row.hint:
                st.caption(row.hint)
    if len(troubled) > _MOST_LISTED:
        st.caption(f"And {len(troubled) - _MOST_LISTED} more: `deltadex status` lists them all.")


def _newest(rows: Sequence[VersionRow]) -> None:
    st.subheader("Newest versions")
    for row in sorted(rows, key=lambda row: (row.registered.ref.created_ms, row.id))[::-1][:_MOST_LISTED]:
        _row_head(row)


def _row_head(row: VersionRow) -> None:
    name, state, registered = st.columns([5, 2, 2], vertical_alignment="center")
    with name:
        view.version_link(row)
    state.markdown(view.state_badge(row.state))
    registered.caption(view.ago(view.registered_at(row)))


def _findings(now: Snapshot) -> None:
    st.subheader("To decide")
    rows = [row for row in reads.all_reviews(now) if row.review.status in UNDECIDED]
    if not rows:
        st.caption("Nothing: duplicates, drift and trouble are found as versions are embedded.")
        return
    counts = Counter(row.finding.kind for row in rows)
    for kind, name in view.FINDING_NAMES.items():
        if counts[kind]:
            link, count, more = st.columns([4, 1, 2], vertical_alignment="center")
            link.page_link("screens/reviews.py", label=f":blue[{name}]", query_params={"kind": name})
            count.markdown(f"**{counts[kind]:,}**")
            if page := _FINDING_PAGES.get(kind):
                more.page_link(f"screens/{page}.py", label=":gray[all of them]")


def _trend(rows: Sequence[VersionRow]) -> None:
    st.subheader("Week by week")
    st.html(bars.weeks_bars(bars.weeks(rows, now=datetime.now(UTC))))


def _recipes(now: Snapshot) -> None:
    st.subheader("Recipes")
    recipes = reads.recipes(now)
    if not recipes:
        st.caption("None yet: the first embedded version makes one.")
        return
    st.caption("Only versions of one recipe, so of one base model, are compared.")
    st.dataframe(
        {
            "base model": [recipe.base_name for recipe in recipes],
            "versions": [recipe.embedded for recipe in recipes],
            "dimension": [recipe.dimension for recipe in recipes],
            "recipe": [recipe.digest[:12] for recipe in recipes],
        },
        hide_index=True,
    )


show(snapshot())
