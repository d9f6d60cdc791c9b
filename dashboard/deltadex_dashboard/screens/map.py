"""The map: every embedded version of one recipe in two dimensions, with its clusters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

import streamlit as st

from deltadex.domain import VersionRow
from deltadex.governance.report import Table
from deltadex_dashboard import reads, view
from deltadex_dashboard.map_figure import Place, map_figure
from deltadex_dashboard.snapshots import Snapshot, snapshot

_CLUSTER = "cluster"
_STATE = "state"
_OWN_TAGS = ("deltadex.", "mlflow.")
#: More ids than this make no link that a chat program leaves whole.
_MOST_IN_LINK = 100


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading(
        "Map", "Finetunes that change their base in similar ways lie together. Click one, or draw round several."
    )
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
        drawn = _draw(chart, by, row, last) if chart.rows else {}
        _caption(chart)
    with right:
        _selected(now, row)
        _weak(now)
    _chosen(chart, _chosen_ids(drawn))


def _colorings(rows: Sequence[VersionRow]) -> list[str]:
    tags = {tag for row in rows for tag in row.registered.tags if not tag.startswith(_OWN_TAGS)}
    return [_CLUSTER, *(f"tag: {tag}" for tag in sorted(tags)), _STATE]


def _until(rows: Sequence[VersionRow]) -> date:
    days = sorted({view.registered_at(row).date() for row in rows}) or [date.max]
    if len(days) < 2:
        return days[-1]
    # No value in the link while all are shown: the newest day is another one tomorrow.
    return st.select_slider("Registered until", days, days[-1], key="until", bind="query-params")


def _groups(chart: reads.Chart, by: str) -> list[str | None]:
    if by == _CLUSTER:
        names = view.cluster_names(chart)
        return [names[label] if label >= 0 else None for label in chart.labels.tolist()]
    if by == _STATE:
        return [str(row.state) for row in chart.rows]
    return [row.registered.tags.get(by.removeprefix("tag: ")) for row in chart.rows]


def _draw(chart: reads.Chart, by: str, selected: VersionRow | None, last: date) -> dict[int, str]:
    labels, groups = chart.labels, _groups(chart, by)
    shown = [number for number, row in enumerate(chart.rows) if view.registered_at(row).date() <= last]
    order = sorted(shown, key=lambda row: (labels[row] < 0, labels[row], row))
    places = [Place(chart.rows[row].id, chart.rows[row].label, groups[row]) for row in order]
    figure = map_figure(
        places, chart.coordinates[order], selected=selected.id if selected else None, named=by == _CLUSTER
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
    """Return ids and labels of the versions that are clicked or drawn round."""
    points = state["selection"]["points"]
    return {int(point["customdata"]): str(point["text"]) for point in points if point.get("customdata") is not None}


def _chosen_ids(drawn: Collection[int]) -> Collection[int]:
    """Return the versions that were drawn round, here or by who made the link."""
    if len(drawn) < 2:
        written = st.query_params.get("chosen", "").split(",")
        return [int(one) for one in written if one.isdecimal()]
    if len(drawn) <= _MOST_IN_LINK:
        st.query_params["chosen"] = ",".join(map(str, sorted(drawn)))
    return drawn


def _caption(chart: reads.Chart) -> None:
    if not chart.clusters:
        st.info(chart.note)
        return
    st.caption(
        f"{chart.note} **Distances on the map are not distances between models:** it flattens "
        f"{chart.recipe.dimension:,} dimensions into two. Similarities beside it are measured in all of them."
    )


def _selected(now: Snapshot, row: VersionRow | None) -> None:
    st.subheader("Selected")
    if row is None:
        st.caption("Nothing yet. A click on a point shows what behaves most like it, measured in the full space.")
        return
    view.version_link(row)
    st.caption("Its neighbours, by cosine similarity in the full space:")
    view.neighbor_list(reads.version(now, row.id).neighbors)


def _chosen(chart: reads.Chart, ids: Collection[int]) -> None:
    names, wanted = view.cluster_names(chart), set(ids)
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
        if row.id in wanted
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
        st.caption("They move their base too little for a comparison to mean anything.")
        view.some_links(weak)


show(snapshot())
