"""The map: every embedded version of one recipe in two dimensions, with its clusters."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.analysis.clusters import ALONE
from deltadex.domain import FindingKind, VersionRow
from deltadex_dashboard import figures, reads, view
from deltadex_dashboard.figures import Place

_CLUSTER = "cluster"
_STATE = "state"
_OWN_TAGS = ("deltadex.", "mlflow.")
_MOST_LISTED = 30


def show(now: reads.Snapshot) -> None:
    """Draw the page."""
    view.heading("Map", "Finetunes that change their base in similar ways lie together. Click one, or draw a box.")
    if view.nothing_embedded(now):
        return
    recipe, color, chosen = st.columns([2, 2, 3])
    with recipe:
        chart = reads.chart(now, view.choose_recipe(now))
    rows = chart.domains.table.rows
    by_label = {row.label: row for row in rows}
    with color:
        by = st.selectbox("Colour by", _colorings(rows), key="color", bind="query-params")
    with chosen:
        selected = st.selectbox(
            "Selected version", sorted(by_label), index=None, key="selected", bind="query-params",
            placeholder="Click a point, or choose a version",
        )  # fmt: skip
    left, right = st.columns([7, 3], gap="medium")
    with left, st.container(border=True):
        boxed = _draw(chart, by, selected) if rows else []
        _caption(chart)
    with right:
        _selected(now, by_label.get(selected or ""))
        _boxed([by_label[label] for label in boxed if label in by_label])
        _domains(chart)
        _weak(now)


def _colorings(rows: Sequence[VersionRow]) -> list[str]:
    tags = {tag for row in rows for tag in row.registered.tags if not tag.startswith(_OWN_TAGS)}
    return [_CLUSTER, *(f"tag: {tag}" for tag in sorted(tags)), _STATE]


def _groups(chart: reads.Chart, by: str) -> list[str | None]:
    domains = chart.domains
    if by == _CLUSTER:
        names = [name.text for name in domains.names]
        shown = [name if names.count(name) == 1 else f"{name} ({label + 1})" for label, name in enumerate(names)]
        return [None if label == ALONE else shown[label] for label in domains.clusters.labels]
    if by == _STATE:
        return [str(row.state) for row in domains.table.rows]
    return [row.registered.tags.get(by.removeprefix("tag: ")) for row in domains.table.rows]


def _draw(chart: reads.Chart, by: str, selected: str | None) -> list[str]:
    """Draw the map and return the labels of versions in a box; a clicked one becomes the selected one."""
    table = chart.domains.table
    order = sorted(range(len(table.rows)), key=lambda row: (chart.domains.clusters.labels[row], row))
    groups = _groups(chart, by)
    places = [
        Place(table.rows[row].label, groups[row], f"{groups[row] or 'alone'} · strength {table.strengths[row]:.3f}")
        for row in order
    ]
    state = st.plotly_chart(
        figures.map_figure(places, chart.coordinates[order], selected=selected, named=by == _CLUSTER),
        key="map", on_select=_take_click, selection_mode=("points", "box"),
        config={"displaylogo": False, "scrollZoom": True}, alt="Map of model versions",
    )  # fmt: skip
    labels = [str(point["customdata"][0]) for point in state["selection"]["points"] if point.get("customdata")]
    return labels if len(labels) > 1 else []


def _take_click() -> None:
    points = [point for point in st.session_state["map"]["selection"]["points"] if point.get("customdata")]
    if len(points) == 1:
        st.session_state["selected"] = str(points[0]["customdata"][0])


def _caption(chart: reads.Chart) -> None:
    clusters = chart.domains.clusters
    if clusters.note:
        st.info(clusters.note)
        return
    silhouette = "" if clusters.silhouette is None else f" · silhouette {clusters.silhouette:.2f}"
    st.caption(
        f"{clusters.count} clusters where the mean similarity is at least {clusters.min_similarity:g}{silhouette}. "
        "**Distances on the map are not distances between models:** it flattens "
        f"{chart.domains.recipe.dimension} dimensions into two. Similarities beside it are measured in all of them."
    )


def _selected(now: reads.Snapshot, row: VersionRow | None) -> None:
    if row is None:
        return
    st.subheader("Selected")
    view.version_link(row)
    st.caption("Its neighbours, by cosine similarity in the full space:")
    view.neighbor_list(reads.version(now, row.id).neighbors)


def _boxed(rows: Sequence[VersionRow]) -> None:
    if not rows:
        return
    st.subheader(f"{len(rows)} in the box")
    for row in rows[:_MOST_LISTED]:
        view.version_link(row)
    if len(rows) > _MOST_LISTED:
        st.caption(f"And {len(rows) - _MOST_LISTED} more.")


def _domains(chart: reads.Chart) -> None:
    domains = chart.domains
    if not domains.names:
        return
    st.subheader("Clusters")
    for label, name in enumerate(domains.names):
        with st.expander(f"**{view.plain(name.text)}** · {len(domains.members(label))}"):
            st.caption(f"Named by: {name.origin}")
            _members(domains.members(label))
    if alone := domains.members(ALONE):
        with st.expander(f"alone · {len(alone)}"):
            st.caption("Similar enough to no other version.")
            _members(alone)


def _members(rows: Sequence[VersionRow]) -> None:
    for row in rows[:_MOST_LISTED]:
        view.version_link(row)
    if len(rows) > _MOST_LISTED:
        st.caption(f"And {len(rows) - _MOST_LISTED} more.")


def _weak(now: reads.Snapshot) -> None:
    weak = [one for one in reads.all_findings(now) if one.finding.kind is FindingKind.TOO_WEAK]
    if not weak:
        return
    with st.expander(f"Too weak to place · {len(weak)}"):
        st.caption("They move their base too little for a comparison to mean anything.")
        _members([one.version for one in weak])


show(reads.snapshot())
