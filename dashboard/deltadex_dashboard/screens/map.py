"""The map page: every embedded version of one recipe in two dimensions, with its clusters; or those of all bases."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date
from typing import Any

import streamlit as st

from deltadex.escaping import markdown_hint
from deltadex.map.chart import Chart
from deltadex.reports.table import Table
from deltadex.types import DOMAIN_TAG, VersionRow
from deltadex_dashboard.charts.colors import TEXT_COLORS
from deltadex_dashboard.charts.map import MapPoint, map_figure
from deltadex_dashboard.elements import across_bases
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.map import cards
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_CLUSTER = "cluster"
_STATE = "state"
_DECLARED = f"tag: {DOMAIN_TAG}"
#: Maximum number of ids in a link; chat programs cut longer links.
_MOST_IN_LINK = 100


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Map", "Finetunes that change their base in similar ways are close. Click a point, or select several.")
    if view.nothing_embedded(now):
        return
    if across_bases.is_chosen(now):
        across_bases.show(now)
        return
    recipe, color, until = st.columns([3, 2, 2])
    with recipe:
        chart = reads.chart(now, view.recipe_id(now))
    labels = {row.label: row for row in chart.rows}
    with color:
        by = st.selectbox("Colour by", _colorings(chart.rows), key="color", bind="query-params")
    with until:
        last = _until(chart.rows)
    search, chosen = st.columns([3, 4])
    with search:
        wanted = st.text_input("Search", key="search", bind="query-params", placeholder="Part of a name, tag or alias")
    with chosen:
        selected = st.selectbox(
            "Selected version", sorted(labels), index=None, key="selected", bind="query-params",
            placeholder="Click a point, or choose one",
        )  # fmt: skip
    row = labels.get(selected or "")
    left, right = st.columns([7, 3], gap="medium")
    with left, st.container(border=True):
        selection = _draw(now, chart, by, row, last, wanted) if chart.rows else {}
        _caption(chart)
    with right:
        _selected(now, chart, row)
        _weak(now)
    _chosen(chart, _chosen_ids(selection))


def _colorings(rows: Sequence[VersionRow]) -> list[str]:
    tags = {f"tag: {tag}" for row in rows for tag in row.registered.own_tags}
    return [*sorted(tags & {_DECLARED}), _CLUSTER, *sorted(tags - {_DECLARED}), _STATE]


def _until(rows: Sequence[VersionRow]) -> date:
    days = sorted({row.registered_at.date() for row in rows}) or [date.max]
    if len(days) < 2:
        return days[-1]
    # The default is not part of the link, because the newest day changes.
    return st.select_slider("Registered until", days, days[-1], key="until", bind="query-params")


def _groups(chart: Chart, by: str) -> list[str | None]:
    if by == _CLUSTER:
        names = view.cluster_names(chart)
        return [names[label] if label >= 0 else None for label in chart.labels.tolist()]
    if by == _STATE:
        return [str(row.state) for row in chart.rows]
    return [row.registered.tags.get(by.removeprefix("tag: ")) for row in chart.rows]


def _draw(now: Snapshot, chart: Chart, by: str, selected: VersionRow | None, last: date, wanted: str) -> dict[int, str]:
    shown = [number for number, row in enumerate(chart.rows) if row.registered_at.date() <= last]
    order = sorted(shown, key=lambda row: (chart.labels[row] < 0, chart.labels[row], row))
    points = _points(now, chart, by, wanted)
    if wanted:
        st.caption(f"{sum(not points[row].is_faded for row in shown):,} of {len(shown):,} versions match.")
    figure = map_figure(
        [points[row] for row in order], chart.coordinates[order], selected=selected.id if selected else None,
        path=[row.id for row in _versions(chart, selected)], named=by in (_CLUSTER, _DECLARED),
        text_color=TEXT_COLORS[st.context.theme.type or "light"],
    )  # fmt: skip
    state = st.plotly_chart(
        figure, key="map", on_select=_take_click, selection_mode=("points", "box", "lasso"),
        config={"displaylogo": False, "scrollZoom": True}, alt="Map of model versions",
    )  # fmt: skip
    return _picked(state)


def _points(now: Snapshot, chart: Chart, by: str, wanted: str) -> list[MapPoint]:
    elsewhere, faded = chart.lies_elsewhere.tolist(), (~chart.matches(wanted)).tolist()
    values = zip(chart.rows, _groups(chart, by), cards(now, chart.recipe.id), elsewhere, faded, strict=True)
    return [MapPoint(row.id, row.label, *rest) for row, *rest in values]


def _versions(chart: Chart, selected: VersionRow | None) -> list[VersionRow]:
    """Return the versions of the selected one's model that are on the map, oldest first."""
    if selected is None or selected.registered.ref.is_hidden:
        return []
    of_model = [row for row in chart.rows if row.registered.ref.name == selected.registered.ref.name]
    return sorted(of_model, key=lambda row: row.registered.ref.age)


def _take_click() -> None:
    points = _picked(st.session_state["map"])
    if len(points) == 1:
        [st.session_state["selected"]] = points.values()
    st.query_params.pop("chosen", None)


def _picked(state: Any) -> dict[int, str]:
    """Return ids and labels of the versions that were clicked or selected with box or lasso."""
    points = state["selection"]["points"]
    return {int(point["customdata"]): str(point["text"]) for point in points if point.get("customdata") is not None}


def _chosen_ids(selection: Collection[int]) -> Collection[int]:
    """Return the ids of a box or lasso selection, or else those in the link."""
    if len(selection) < 2:
        ids_in_link = st.query_params.get("chosen", "").split(",")
        return [int(text) for text in ids_in_link if text.isdecimal()]
    if len(selection) <= _MOST_IN_LINK:
        st.query_params["chosen"] = ",".join(map(str, sorted(selection)))
    return selection


def _caption(chart: Chart) -> None:
    if not chart.clusters:
        st.info(markdown_hint(chart.note))
        return
    count = int(chart.lies_elsewhere.sum())
    ringed = f" **{count} with a ring** lie in a cluster of mostly another declared domain." if count else ""
    st.caption(
        f"{chart.note}{ringed} **Distances on the map are not distances between models:** it projects "
        f"{chart.recipe.dimension:,} dimensions to two. The similarities next to it use all dimensions."
    )


def _selected(now: Snapshot, chart: Chart, row: VersionRow | None) -> None:
    st.subheader("Selected")
    if row is None:
        st.caption("Nothing yet. Click a point to see its nearest neighbours in the full space.")
        return
    view.version_link(row)
    st.markdown(" ".join((view.state_badge(row.state), view.alias_badges(row))))
    st.caption("  \n".join(_facts(chart, row)))
    st.caption("Its neighbours, by cosine similarity in the full space:")
    view.neighbor_list(reads.version(now, row.id).neighbors)


def _facts(chart: Chart, row: VersionRow) -> Iterator[str]:
    label = chart.labels[chart.rows.index(row)]
    cluster = view.cluster_names(chart)[label] if label >= 0 else "none"
    yield f"Declared domain: {view.plain(row.registered.tags.get(DOMAIN_TAG, 'none'))}"
    yield f"Cluster: {view.plain(cluster)}"
    yield f"Owner: {view.plain(row.registered.owner or 'none')}"
    yield f"Registered: {row.registered_at:%Y-%m-%d}"
    versions = _versions(chart, row)
    if len(versions) > 1:
        yield "Path on the map: " + " → ".join(f"v{one.registered.ref.version}" for one in versions)


def _chosen(chart: Chart, ids: Collection[int]) -> None:
    names, chosen = view.cluster_names(chart), set(ids)
    rows = [
        (
            row.registered.ref.name,
            row.registered.ref.version,
            names[label] if label >= 0 else None,
            row.registered.tags.get("team"),
            row.state.value,
            row.registered_at,
            round(strength, 4),
        )
        for row, label, strength in zip(chart.rows, chart.labels.tolist(), chart.strengths.tolist(), strict=True)
        if row.id in chosen
    ]
    st.subheader(f"{len(rows):,} chosen" if rows else "Chosen")
    if not rows:
        st.caption("Draw a box or a lasso on the map (its tools are above it) to list the versions inside.")
        return
    columns = ("model", "version", "cluster", "team", "state", "registered", "strength")
    view.table(Table("chosen-versions", "Chosen versions", columns, tuple(rows)))


def _weak(now: Snapshot) -> None:
    weak = reads.weak(now)
    if not weak:
        return
    with st.expander(f"Too weak to place · {len(weak)}"):
        st.caption("These versions change their base too little for a meaningful comparison.")
        view.some_links(weak)


show(snapshot())
