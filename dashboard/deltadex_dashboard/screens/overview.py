"""The overview page: versions by state, versions that need attention, undecided findings and recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st
from rich.filesize import decimal

from deltadex.escaping import markdown_hint
from deltadex.findings.kinds import KINDS
from deltadex.reviews.lifecycle import UNDECIDED
from deltadex.reviews.worth import worth
from deltadex.types import UNDER_WAY, State, VersionRow
from deltadex_dashboard.charts import bars
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_MOST_LISTED = 8


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Overview", "State of every finetune in the registry, and findings to decide.")
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
        "In progress": str(sum(counts[state] for state in UNDER_WAY)),
        "Need attention": str(sum(_needs_attention(row) for row in rows)),
        "To decide": f"{sum(row.review.status in UNDECIDED for row in reads.all_reviews(now)):,}",
    }
    *columns, last = st.columns([1] * len(numbers) + [1.3])  # a size has a unit
    for column, (label, value) in zip(columns, numbers.items(), strict=True):
        column.metric(label, value, border=True)
    saved = worth(reads.all_reviews(now), rows, now.settings.costs)
    share = f" · {saved.share:.0%}" if saved.share and saved.freed_bytes else ""
    last.metric(
        "Could be freed", f"{decimal(saved.freed_bytes)}{share}" if saved.freed_bytes else "–", border=True,
        help="By retiring what the groups of equal and nearly equal versions propose, and its share of all bytes in "
        "the registry. DELTADEX_COSTS__GB_MONTH shows it as money.",
    )  # fmt: skip
    if money := saved.in_words(now.settings.costs.currency):
        st.caption(f"Worth {view.plain(money)}.")
    st.html(bars.states_bar(counts))


def _needs_attention(row: VersionRow) -> bool:
    """Return True if a person should act. An unsupported version without a hint, such as a base model, is fine."""
    return row.state in (State.WAITING, State.FAILED) or (row.state is State.UNSUPPORTED and bool(row.hint))


def _attention(rows: Sequence[VersionRow]) -> None:
    st.subheader("Needs attention")
    waiting = sorted(filter(_needs_attention, rows), key=lambda row: row.state_since)[::-1]
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
    registered.caption(view.ago(view.registered_at(row)))


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


def _trend(rows: Sequence[VersionRow]) -> None:
    st.subheader("Week by week")
    st.html(bars.weeks_bars(bars.weeks(rows, now=datetime.now(UTC))))


def _recipes(now: Snapshot) -> None:
    st.subheader("Recipes")
    recipes = reads.recipes(now)
    if not recipes:
        st.caption("None yet: the first embedded version creates one.")
        return
    st.caption("Only versions of the same recipe, and thus of the same base model, are compared.")
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
