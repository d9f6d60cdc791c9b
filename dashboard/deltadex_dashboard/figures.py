"""Plotly figures. Pure: values in, figure out, no Streamlit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from deltadex.analysis.drift import Step
from deltadex.drifting import ModelDrift

#: One per group, so that colour is never the only sign; WebGL draws all of them.
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "pentagon", "star", "hexagram", "triangle-down",
    "cross", "hexagon", "x", "triangle-left", "star-diamond", "triangle-right",
)  # fmt: skip
#: The same as the theme's `chartCategoricalColors`: distinguishable with the common colour blindnesses where possible.
COLORS = (
    "#3b6fb6", "#e08a1e", "#2f9e77", "#c2487f", "#7a5cc0", "#a3791f",
    "#3aa0b8", "#d1573d", "#5f8f2f", "#8f5a8f", "#607890", "#b59a00",
)  # fmt: skip
#: Halos of more points than this only cover each other.
_MOST_HALOS = 500
#: Smaller groups than the largest so many are drawn as one: each is a trace, and each trace is a pass of the GPU.
MOST_GROUPS = 40
#: From here on points are small, and the page carries no outlines.
_MANY = 1_500
#: With more groups than this their names on the map would cover it; the legend has them.
_MOST_NAMES = 14
_OTHERS = "smaller groups"
_QUIET = "#8a93a6"
_CALM = "#4c78dd"
_ALERT = "#d1495b"
_MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}


@dataclass(frozen=True)
class Place:
    """One version on the map.

    Attributes
    ----------
    id
        Row of `model_versions`: the point's `customdata`.
    label
        `name/version`.
    group
        What it is coloured by; None where it belongs to no group.
    """

    id: int
    label: str
    group: str | None


def map_figure(
    places: Sequence[Place], coordinates: NDArray[np.floating], *, selected: int | None = None, named: bool = True
) -> go.Figure:
    """Return the map: one trace per group, each with its own colour and symbol; float32 is sent as it is, in base64.

    Parameters
    ----------
    places, coordinates
        `n` versions and their `(n, 2)` positions. Groups are drawn in the order in which they are first met.
    selected
        Id of the version that gets a ring.
    named
        Whether groups are places on the map, so that their names are written there.
    """
    figure, coordinates = go.Figure(), np.asarray(coordinates, dtype=np.float32)
    groups = _groups(places)
    members: dict[str | None, list[int]] = {group: [] for group in groups}
    for row, place in enumerate(places):
        members.get(place.group, members.setdefault(_OTHERS, [])).append(row)
    is_large = len(places) > _MANY
    for number, (group, rows) in enumerate(item for item in members.items() if item[1]):
        trace = _group_trace([places[row] for row in rows], coordinates[rows], group, number, is_large=is_large)
        figure.add_trace(trace)
    points = list(figure.data)
    if named and len(groups) <= _MOST_NAMES:
        _name_groups(figure, coordinates)
    if len(places) <= _MOST_HALOS:
        figure.add_traces([_halo(trace) for trace in points])
        # Below the points that they belong to.
        figure.data = figure.data[len(points) :] + figure.data[: len(points)]
    ringed = [row for row, place in enumerate(places) if place.id == selected]
    if ringed:
        figure.add_trace(_ring(coordinates[ringed]))
    figure.update_layout(
        height=600,
        margin=_MARGIN,
        uirevision="map",
        dragmode="select",
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "itemsizing": "constant"},
    )
    for update, values in zip((figure.update_xaxes, figure.update_yaxes), coordinates.T, strict=True):
        update(showticklabels=False, zeroline=False, showline=False, showgrid=False, range=_with_room(values))
    return figure


def drift_figure(drifted: ModelDrift, *, threshold: float, height: int = 260) -> go.Figure:
    """Return how far each version is from the one before, from the first and from the alias, over what noise reaches.

    Where a version can't be compared with the one before the lines are broken, and a dotted line says why.
    """
    names = [f"v{row.registered.ref.version}" for row in drifted.versions]
    steps = drifted.steps
    figure = go.Figure()
    noise = [step.previous.noise if step.previous else None for step in steps]
    figure.add_scatter(
        x=names[1:], y=noise, name="noise", mode="lines", line={"color": _QUIET, "width": 0}, fill="tozeroy",
        fillcolor="rgba(138, 147, 166, 0.22)", hovertemplate="%{y:.4f}",
    )  # fmt: skip
    lines = [("from the first", [step.first for step in steps], "dot")]
    if drifted.alias:
        lines.append((f"from @{drifted.alias}", [step.alias for step in steps], "dashdot"))
    for name, moves, dash in lines:
        distances = [move.distance if move else None for move in moves]
        figure.add_scatter(x=names[1:], y=distances, name=name, mode="lines", line={"dash": dash, "color": _QUIET})
    figure.add_scatter(
        x=names[1:],
        y=[step.previous.distance if step.previous else None for step in steps],
        name="from the version before",
        mode="lines+markers",
        line={"color": _CALM},
        marker={
            "size": [12 if step.change else 8 for step in steps],
            "symbol": ["diamond" if step.change else "circle" for step in steps],
            "color": [_ALERT if step.change else _CALM for step in steps],
        },
        customdata=[[_strength(step)] for step in steps],
        hovertemplate="%{y:.4f}, strength %{customdata[0]}",
    )
    for name, step in zip(names[1:], steps, strict=True):
        if step.broken:
            figure.add_vline(x=name, line={"dash": "dot", "color": _ALERT, "width": 1})
            figure.add_annotation(x=name, y=1, yref="paper", text=step.broken.value, showarrow=False, xanchor="left")
    figure.add_hline(
        y=threshold,
        line={"dash": "dash", "color": _ALERT, "width": 1},
        annotation={"text": f"threshold {threshold:g}", "font": {"color": _ALERT}},
        annotation_position="top left",
    )
    figure.update_layout(
        height=height, margin=_MARGIN, hovermode="x unified", legend={"orientation": "h", "y": -0.18, "yanchor": "top"}
    )
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.4, len(names) - 0.6])
    shown = [value for trace in figure.data for value in trace.y if value is not None]
    figure.update_yaxes(title="cosine distance", range=[0, max(threshold, *shown, 0) * 1.15], tickformat=".2f")
    return figure


def probes_figure(drifted: ModelDrift, *, height: int = 220) -> go.Figure:
    """Return the distance of each step as each probe alone sees it; steps without probes are left out."""
    steps = [
        (f"v{row.registered.ref.version}", step.previous.probe_distances)
        for row, step in zip(drifted.versions[1:], drifted.steps, strict=True)
        if step.previous and step.previous.probe_distances
    ]
    count = max((len(distances) for _, distances in steps), default=0)
    figure = go.Figure(
        go.Heatmap(
            x=[name for name, _ in steps],
            y=[f"probe {number + 1}" for number in range(count)],
            z=np.array([distances for _, distances in steps]).T if steps else [],
            zmin=0,
            colorscale=[[0, "#eef2fb"], [1, _ALERT]],
            hovertemplate="%{y} of %{x}<br>distance %{z:.4f}<extra></extra>",
        )
    )
    figure.update_layout(height=height, margin=_MARGIN)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def measure_figure(measure: float, threshold: float, *, what: str) -> go.Figure:
    """Return a number on a line, with the threshold that it crossed."""
    figure = go.Figure()
    low, high = min(measure, threshold), max(measure, threshold)
    room = max(high - low, 0.02 * max(abs(high), 1e-3)) * 0.6
    figure.add_scatter(x=[low - room, high + room], y=[0, 0], mode="lines", line={"color": _QUIET, "width": 2})
    figure.add_scatter(
        x=[threshold, measure],
        y=[0, 0],
        mode="markers+text",
        marker={"symbol": ["line-ns", "diamond"], "size": [26, 15], "color": _ALERT,
                "line": {"width": [2, 0], "color": _ALERT}},
        text=[f"threshold {threshold:.4g}", f"<b>{measure:.4g}</b>"],
        textposition=["bottom center", "top center"],
        cliponaxis=False,
        hoverinfo="skip",
    )  # fmt: skip
    figure.update_layout(height=110, margin={"l": 24, "r": 24, "t": 8, "b": 8}, showlegend=False)
    figure.update_xaxes(visible=False, fixedrange=True, title=what)
    figure.update_yaxes(visible=False, fixedrange=True, range=[-1, 1])
    return figure


def similarity_figure(labels: Sequence[str], similarity: NDArray[np.float64]) -> go.Figure:
    """Return a heat map of the `(n, n)` cosine similarities between `n` versions, with the numbers where they fit."""
    count = len(labels)
    figure = go.Figure(
        go.Heatmap(
            z=similarity,
            x=list(labels),
            y=list(labels),
            zmin=min(0.9, float(similarity.min(initial=1.0))),
            zmax=1,
            colorscale=[[0, "#eef2fb"], [1, "#3560c4"]],
            texttemplate="%{z:.3f}" if count <= 12 else None,
            hovertemplate="%{y}<br>%{x}<br>similarity %{z:.4f}<extra></extra>",
        )
    )
    figure.update_layout(height=140 + 34 * count, margin=_MARGIN)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def _strength(step: Step) -> str:
    ratio = step.previous.strength_ratio if step.previous else None
    return "unknown" if ratio is None else f"× {ratio:.2f}"


def _with_room(values: NDArray[np.floating]) -> list[float]:
    """Return an axis's range that leaves room for names beside the outermost groups."""
    lowest, highest = float(values.min()), float(values.max())
    room = 0.14 * (highest - lowest) or 1.0
    return [lowest - room, highest + room]


def _groups(places: Sequence[Place]) -> list[str | None]:
    """Return the groups that get a colour, as they are first met; what is in none comes last."""
    sizes = Counter(place.group for place in places)
    largest = {group for group, _ in sizes.most_common(MOST_GROUPS)}
    met = [group for group in dict.fromkeys(place.group for place in places) if group in largest]
    return [*(group for group in met if group is not None), *(group for group in met if group is None)]


def _group_trace(
    places: Sequence[Place], coordinates: NDArray[np.floating], group: str | None, number: int, *, is_large: bool
) -> go.Scattergl:
    marker = {
        "size": 6 if is_large else 12,
        "symbol": SYMBOLS[number % len(SYMBOLS)],
        "color": COLORS[number % len(COLORS)],
        "line": {"width": 0 if is_large else 1, "color": "rgba(255, 255, 255, 0.7)"},
    }
    if group in (None, _OTHERS):
        marker |= {"symbol": "circle-open", "color": _QUIET, "size": 5 if is_large else 10}
        marker["line"] = {"width": 1 if is_large else 2}
    return go.Scattergl(
        x=coordinates[:, 0],
        y=coordinates[:, 1],
        mode="markers",
        name=group or "in no group",
        marker=marker,
        legendgroup=group or "",
        unselected={"marker": {"opacity": 0.25}},
        customdata=np.array([place.id for place in places], dtype=np.int32),
        text=[place.label for place in places],
        hovertemplate=f"<b>%{{text}}</b><br>{escape(group or 'alone')}<extra></extra>",
    )


def _name_groups(figure: go.Figure, coordinates: NDArray[np.floating]) -> None:
    """Write each group's name on that side of it where most room is left by all points and the names before."""
    size = np.ptp(coordinates, axis=0) + np.finfo(float).tiny
    taken = coordinates
    for trace in figure.data:
        if trace.marker.color != _QUIET:
            own = np.column_stack([trace.x, trace.y])
            (left, bottom), (x, y), (right, top) = own.min(axis=0), np.median(own, axis=0), own.max(axis=0)
            sides = [((x, top), (0, 22)), ((x, bottom), (0, -22)), ((right, y), (44, 0)), ((left, y), (-44, 0))]
            written = [np.array(at) + np.array(shift) / (700, 500) * size for at, shift in sides]
            rooms = [float(np.min(np.hypot(*((taken - place) / size).T))) for place in written]
            best = int(np.argmax(rooms))
            (x, y), (x_shift, y_shift) = sides[best]
            taken = np.vstack([taken, written[best]])
            figure.add_annotation(
                x=x,
                y=y,
                xshift=x_shift,
                yshift=y_shift,
                text=f"<b>{trace.name}</b>",
                font={"color": trace.marker.color, "size": 14},
                showarrow=False,
            )


def _halo(points: go.Scattergl) -> go.Scattergl:
    """Return a soft cloud under a group, which comes and goes with it and is never selected."""
    return go.Scattergl(
        x=points.x,
        y=points.y,
        mode="markers",
        marker={"size": 52, "color": points.marker.color, "opacity": 0.07},
        unselected={"marker": {"opacity": 0.07}},
        legendgroup=points.legendgroup,
        showlegend=False,
        hoverinfo="skip",
    )


def _ring(coordinates: NDArray[np.floating]) -> go.Scattergl:
    return go.Scattergl(
        x=coordinates[:, 0],
        y=coordinates[:, 1],
        mode="markers",
        marker={"symbol": "circle-open", "size": 24, "color": _ALERT, "line": {"width": 3}},
        hoverinfo="skip",
        showlegend=False,
    )
