"""Groups of redundant versions: the same weights, or nearly the same behaviour."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.answers import DuplicateGroup
from deltadex.domain import VersionRow
from deltadex.governance.report import Table
from deltadex_dashboard import figures, reads, view

_GROUPS_PER_PAGE = 8
_MOST_MEMBERS = 10


def show(now: reads.Snapshot) -> None:
    """Draw the page."""
    view.heading("Duplicates", "Versions with the same weights, and versions that do nearly the same.")
    if view.nothing_embedded(now):
        return
    threshold = _threshold(now.settings.thresholds.near_duplicate_similarity)
    groups = reads.duplicates(now, threshold)
    if not groups:
        view.empty("No two versions are duplicates.", "Lower the similarity above to see which come closest.")
        return
    _numbers(groups)
    for number in _page(len(groups)):
        _group(now, number, groups[number])
    st.subheader("All groups")
    view.table(_table(groups))


def _threshold(setting: float) -> float:
    slider, note = st.columns([2, 3], vertical_alignment="bottom", gap="large")
    # From the setting down to where nothing is a duplicate any more, and up to equality.
    lowest = min(0.7, setting)
    threshold = slider.slider(
        "Similarity of a near duplicate, at least", lowest, 1.0, setting, 0.005, format="%.3f",
        key="threshold", bind="query-params",
    )  # fmt: skip
    if threshold == setting:
        note.caption(f"Findings are made at this similarity ({setting:g}).")
    else:
        note.caption(f"A preview: findings are made at {setting:g}, which a setting can change.")
    return float(threshold)


def _numbers(groups: Sequence[DuplicateGroup]) -> None:
    exact = [group for group in groups if group.is_exact]
    members = {row.id for group in groups for row in group.versions}
    first, second, third = st.columns(3)
    first.metric("Groups with the same weights", len(exact), border=True)
    second.metric("Groups of near duplicates", len(groups) - len(exact), border=True)
    third.metric("Versions in a group", len(members), border=True)


def _page(count: int) -> range:
    """Let a person leaf through the groups, and return the numbers of those to show."""
    pages = -(-count // _GROUPS_PER_PAGE)
    if pages < 2:
        return range(count)
    left, _ = st.columns([1, 4])
    page = left.number_input(f"Page of {pages}", 1, pages, key="page", bind="query-params")
    return range((page - 1) * _GROUPS_PER_PAGE, min(page * _GROUPS_PER_PAGE, count))


def _table(groups: Sequence[DuplicateGroup]) -> Table:
    rows = [
        (
            number,
            "same weights" if group.is_exact else "near",
            row.registered.ref.name,
            row.registered.ref.version,
            row.registered.tags.get("team"),
            round(group.lowest_similarity, 6),
        )
        for number, group in enumerate(groups, start=1)
        for row in group.versions
    ]
    columns = ("group", "kind", "model", "version", "team", "lowest similarity in the group")
    return Table("duplicates", "Duplicates", columns, tuple(rows))


def _group(now: reads.Snapshot, number: int, group: DuplicateGroup) -> None:
    with st.container(border=True):
        kind = ":blue-badge[same weights]" if group.is_exact else ":orange-badge[near]"
        base = view.plain(group.recipe.base_name)
        st.markdown(
            f"{kind} **{len(group.versions)} versions** · lowest similarity {group.lowest_similarity:.4f} · base {base}"
        )
        for row in group.versions[:_MOST_MEMBERS]:
            _member(row)
        if len(group.versions) > _MOST_MEMBERS:
            st.caption(f"And {len(group.versions) - _MOST_MEMBERS} more.")
        key = f"compare-{group.versions[0].id}-{len(group.versions)}"
        if not group.is_exact and len(group.versions) > 2 and st.toggle("Similarities", key=key):
            shown = group.versions[:_MOST_MEMBERS]
            similarity = reads.similarities(now, group.recipe.id, tuple(row.id for row in shown))
            figure = figures.similarity_figure([row.label for row in shown], similarity)
            st.plotly_chart(figure, key=f"similarities-{number}")


def _member(row: VersionRow) -> None:
    name, aliases, team, registered = st.columns([4, 2, 2, 2], vertical_alignment="center")
    with name:
        view.version_link(row)
    aliases.markdown(view.alias_badges(row))
    team.caption(f"team {view.plain(row.registered.tags['team'])}" if row.registered.tags.get("team") else "no team")
    registered.caption(f"registered {view.registered_at(row):%Y-%m-%d}")


show(reads.snapshot())
