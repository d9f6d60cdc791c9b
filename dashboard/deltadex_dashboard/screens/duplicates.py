"""The duplicates page: groups of redundant versions, with evidence, proposed keeper and freed disk space."""

from __future__ import annotations

from collections.abc import Sequence, Set

import streamlit as st
from rich.filesize import decimal

from deltadex.duplicates.group import Group, Redundancy
from deltadex.duplicates.overview import RecipeRedundancy
from deltadex.findings.calibration import Threshold
from deltadex.reports.table import Table
from deltadex.reviews.groups import by_members, finding_of
from deltadex.reviews.lifecycle import UNDECIDED, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.types import VersionRow
from deltadex_dashboard.charts import overview as charts
from deltadex_dashboard.elements import finding, side_by_side
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_GROUPS_PER_PAGE = 8
_MOST_MEMBERS = 10
_COLORS = {
    Redundancy.EXACT: "blue",
    Redundancy.SUPERSEDED: "gray",
    Redundancy.NEAR: "orange",
    Redundancy.SAME_TASK: "violet",
}
_MEANINGS = {
    Redundancy.EXACT: "The same weights in any file format, merged or not.",
    Redundancy.SUPERSEDED: "Versions of one registered model that behave the same.",
    Redundancy.NEAR: "Versions of different models that behave alike, within what another seed moves a model. The "
    "vectors can't say whether they saw the same data: compare data sets and parameters side by side.",
    Redundancy.SAME_TASK: "Versions of different models for the same task.",
}


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Duplicates", "Versions that have the same weights, behave nearly the same, or are for the same task.")
    if view.nothing_embedded(now):
        return
    # Groups at the current thresholds; the slider previews others.
    current = reads.duplicates(now)
    threshold = _threshold({one.calibration.near_similarity for one in current})
    shown = current
    if threshold is not None:
        with st.spinner("Comparing all pairs of versions"):
            shown = reads.duplicates(now, threshold)
    groups = [(one, group) for one in shown for group in one.groups]
    reviewed = by_members(reads.all_reviews(now))
    if groups:
        _numbers([group for _, group in groups])
    else:
        view.empty("There are no duplicates.", "Lower the similarity above to see the closest versions.")
    for number in _page(len(groups)):
        _group(now, number, *groups[number], review=finding_of(groups[number][1], reviewed))
    if groups:
        with st.expander("As a table"):
            view.table(_table([group for _, group in groups]))
    for one in shown:
        _evidence(one)


def _threshold(used: Set[Threshold]) -> float | None:
    """Show the slider, and return the similarity of a preview; None where it stands at the one that findings use."""
    slider, note = st.columns([2, 3], vertical_alignment="bottom", gap="large")
    known = {limit.value for limit in used if limit.is_known}
    # Findings of several bases may use several; where nothing is known yet, none is claimed.
    setting = min(known, default=1.0)
    findings = " or ".join(f"{value:g}" for value in sorted(known)) or "no similarity yet"
    threshold = slider.slider(
        "Similarity of a near duplicate, at least", min(reads.LOWEST_PREVIEW, setting), 1.0, setting, 0.005,
        format="%.3f", key="threshold", bind="query-params",
    )  # fmt: skip
    if threshold != setting:
        note.caption(f"Preview only: findings use {findings}.")
        return float(threshold)
    if known:
        note.caption(f"Findings use {findings}.")
    else:
        reasons = "; ".join(sorted({limit.note for limit in used}))
        note.caption(f"No near duplicates are claimed ({view.plain(reasons)}). Lower the similarity for a preview.")
    return None


def _numbers(groups: Sequence[Group]) -> None:
    columns = st.columns(len(Redundancy) + 1)
    for column, kind in zip(columns, Redundancy, strict=False):
        count = sum(group.kind is kind for group in groups)
        column.metric(f"Groups, {kind.words}", count, border=True, help=_MEANINGS[kind])
    freed = sum(group.freed_bytes or 0 for group in groups if group.kind is not Redundancy.SAME_TASK)
    columns[-1].metric(
        "Disk space to free", decimal(freed) if freed else "–", border=True,
        help="Size of the weight files of the versions that these groups propose to retire; those for the same task "
        "aside.",
    )  # fmt: skip


def _page(count: int) -> range:
    """Show the page selector, and return the numbers of the groups on the chosen page."""
    pages = -(-count // _GROUPS_PER_PAGE)
    if pages < 2:
        return range(count)
    left, _ = st.columns([1, 4])
    page = left.number_input(f"Page of {pages}", 1, pages, key="page", bind="query-params")
    return range((page - 1) * _GROUPS_PER_PAGE, min(page * _GROUPS_PER_PAGE, count))


def _table(groups: Sequence[Group]) -> Table:
    rows = [
        (
            number,
            group.kind.words,
            row.registered.ref.name,
            row.registered.ref.version,
            row.registered.owner,
            group.role_of(row),
            round(group.lowest_similarity, 6),
        )
        for number, group in enumerate(groups, start=1)
        for row in group.versions
    ]
    columns = ("group", "kind", "model", "version", "owner", "proposed", "lowest similarity in the group")
    return Table("duplicates", "Duplicates", columns, tuple(rows))


def _group(now: Snapshot, number: int, one: RecipeRedundancy, group: Group, *, review: ReviewRow | None) -> None:
    with st.container(border=True):
        facts = [
            f":{_COLORS[group.kind]}-badge[{group.kind.words}] **{len(group.versions)} versions**",
            f"lowest similarity {group.lowest_similarity:.4f}, norm ratio {group.lowest_norm_ratio:.2f}",
            f"base {view.plain(one.recipe.base_name)}",
        ]
        if group.freed_bytes is not None:
            facts.append(f"the proposal frees {decimal(group.freed_bytes)}")
        st.markdown(" · ".join(facts))
        if review is not None and review.review.status is not Status.OPEN:
            st.markdown(f"{finding.badges(review)} {view.plain(review.plan.reason)}")
        else:
            _proposal(group)
        if review is not None:
            label = "Decide" if review.review.status in UNDECIDED else "See the decision"
            st.page_link("screens/inbox.py", label=f":blue[{label}]", query_params={"finding": str(review.id)})
        for row in group.versions[:_MOST_MEMBERS]:
            _member(row, group)
        if len(group.versions) > _MOST_MEMBERS:
            st.caption(f"And {len(group.versions) - _MOST_MEMBERS} more.")
        key = f"compare-{group.versions[0].id}-{len(group.versions)}"
        if group.kind is not Redundancy.EXACT and len(group.versions) > 2 and st.toggle("Similarities", key=key):
            shown = group.versions[:_MOST_MEMBERS]
            similarity = reads.similarities(now, one.recipe.id, tuple(row.id for row in shown))
            chart = charts.similarity_chart([row.label for row in shown], similarity)
            st.altair_chart(chart, key=f"similarities-{number}", alt="Pairwise similarities")
        side_by_side.show(now, one.recipe.id, group)


def _evidence(one: RecipeRedundancy) -> None:
    with st.expander(f"Thresholds used · base {view.plain(one.recipe.base_name)}"):
        calibration = one.calibration
        limits = (calibration.near_similarity, calibration.near_norm_ratio, calibration.same_task)
        st.dataframe(
            {
                "threshold": ["near: similarity", "near: norm ratio", "same task: similarity"],
                "value": [limit.value if limit.is_known else None for limit in limits],
                "from": [limit.note for limit in limits],
            },
            hide_index=True,
        )
        if expected := calibration.false_pairs_in_words(one.recipe.embedded):
            st.caption(f"Near: {expected}.")
        if one.too_weak:
            labels = ", ".join(view.plain(row.label) for row in one.too_weak)
            st.caption(f"Too weak to place, so not compared: {labels}")


def _proposal(group: Group) -> None:
    proposal = group.proposal
    reason = view.plain(proposal.reason)
    if proposal.keeper is None:
        st.caption(f"**Nothing is proposed**: {reason}. {proposal.advice}")
        return
    retired = ", ".join(view.plain(row.label) for row in proposal.retired)
    st.caption(f"**Keep** {view.plain(proposal.keeper.label)}: {reason}. **{group.kind.verb.capitalize()}** {retired}.")


def _member(row: VersionRow, group: Group) -> None:
    name, role, aliases, team, registered = st.columns([4, 3, 2, 2, 2], vertical_alignment="center")
    with name:
        view.version_link(row)
    role.caption(view.plain(group.role_of(row)))
    aliases.markdown(view.alias_badges(row))
    team.caption(f"owner {view.plain(row.registered.owner)}" if row.registered.owner else "no owner")
    registered.caption(f"registered {row.registered_at:%Y-%m-%d}")


show(snapshot())
