"""The map page: every embedded version of one recipe in two dimensions, with its clusters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

import streamlit as st

from deltadex.escaping import markdown_hint
from deltadex.map.chart import Chart
from deltadex.reports.table import Table
from deltadex.types import VersionRow
from deltadex_dashboard.charts.map import MapPoint, map_figure
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_CLUSTER = "cluster"
_STATE = "state"
#: Maximum number of ids in a link; chat programs cut longer links.
_MOST_IN_LINK = 100


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Map", "Finetunes that change their base in similar ways are close. Click a point, or select several.")
    if view.nothing_embedded(now):
        return
    recipe, color, chosen, until = st.columns([3, 2, 3, 2])
    with recipe:
        chart = reads.chart(now, view.recipe_id(now))
    labels = {row.id: row.label for row in chart.rows}
    with color:
        by = st.selectbox("Colour by", _colorings(chart.rows), key="color", bind="query-params")
    with chosen:
        selected = st.selectbox(
            "Selected version", sorted(labels.values()), index=None, key="selected", bind="query-params",
            placeholder="Click a point, or choose one",
        )  # fmt: skip
    with until:
        last = _until(chart.rows)
    row = next((row for row in chart.rows if row.label == selected), None)
    left, right = st.columns([7, 3], gap="medium")
    with left, st.container(border=True):
        selection = _draw(chart, by, row, last) if chart.rows else {}
        _caption(chart)
    with right:
        _selected(now, row)
        _weak(now)
    _chosen(chart, _chosen_ids(selection))


def _colorings(rows: Sequence[VersionRow]) -> list[str]:
    tags = {tag for row in rows for tag in row.registered.own_tags}
    return [_CLUSTER, *(f"tag: {tag}" for tag in sorted(tags)), _STATE]


def _until(rows: Sequence[VersionRow]) -> date:
    days = sorted({view.registered_at(row).date() for row in rows}) or [date.max]
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


def _draw(chart: Chart, by: str, selected: VersionRow | None, last: date) -> dict[int, str]:
    labels, groups = chart.labels, _groups(chart, by)
    shown = [number for number, row in enumerate(chart.rows) if view.registered_at(row).date() <= last]
    order = sorted(shown, key=lambda row: (labels[row] < 0, labels[row], row))
    points = [MapPoint(chart.rows[row].id, chart.rows[row].label, groups[row]) for row in order]
    figure = map_figure(
        points, chart.coordinates[order], selected=selected.id if selected else None, named=by == _CLUSTER
    )
    state = st.plotly_chart(
        figure, key="map", on_select=_take_click, selection_mode=("points", "box", "lasso"),
        config={"displaylogo": False, "scrollZoom": True}, alt="Map of model versions",
    )  # fmt: skip
    return _points(state)


def _take_click() -> None:
    points = _points(st.session_state["map"])
    if len(points) == 1:
        [st.session_state["selected"]] = points.values()
    st.query_params.pop("chosen", None)


def _points(state: Any) -> dict[int, str]:
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
    st.caption(
        f"{chart.note} **Distances on the map are not distances between models:** it projects "
        f"{chart.recipe.dimension:,} dimensions to two. The similarities next to it use all dimensions."
    )


def _selected(now: Snapshot, row: VersionRow | None) -> None:
    st.subheader("Selected")
    if row is None:
        st.caption("Nothing yet. Click a point to see its nearest neighbours in the full space.")
        return
    view.version_link(row)
    st.caption("Its neighbours, by cosine similarity in the full space:")
    view.neighbor_list(reads.version(now, row.id).neighbors)


def _chosen(chart: Chart, ids: Collection[int]) -> None:
    names, chosen = view.cluster_names(chart), set(ids)
    rows = [
        (
            row.registered.ref.name,
            row.registered.ref.version,
            names[label] if label >= 0 else None,
            row.registered.tags.get("team"),
            row.state.value,
            view.registered_at(row),
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
