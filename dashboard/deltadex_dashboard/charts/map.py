"""The map as a Plotly figure: ten thousand points in WebGL, selectable by box and lasso. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from deltadex.escaping import figure_text
from deltadex_dashboard.charts.colors import ALERT, CATEGORIES, QUIET

#: One symbol per group, so that groups differ by more than colour; WebGL supports all of them.
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "pentagon", "star", "hexagram", "triangle-down",
    "cross", "hexagon", "x", "triangle-left", "star-diamond", "triangle-right",
)  # fmt: skip
#: Maximum number of points with halos; more halos would only cover each other.
_MOST_HALOS = 500
#: Number of groups with their own trace. The others share one, because each trace is a separate pass of the GPU.
MOST_GROUPS = 40
#: Number of points from which points are small and have no outlines.
_LARGE_MAP = 1_500
#: Maximum number of groups with names on the map; more names would cover it and are only in the legend.
_MOST_NAMES = 14
_OTHERS = "smaller groups"
_MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}


@dataclass(frozen=True)
class MapPoint:
    """One version on the map.

    Attributes
    ----------
    id
        Id of the row of `model_versions`; the point's `customdata`.
    label
        `name/version`.
    group
        Group that determines the colour; None for a version without a group.
    """

    id: int
    label: str
    group: str | None


def map_figure(
    points: Sequence[MapPoint], coordinates: NDArray[np.floating], *, selected: int | None = None, named: bool = True
) -> go.Figure:
    """Return the map: one trace per group, each with its own colour and symbol; float32 is sent as base64.

    Parameters
    ----------
    points, coordinates
        `n` versions and their `(n, 2)` coordinates. Groups are drawn in the order of their first points.
    selected
        Id of the version that gets a ring.
    named
        True to write the groups' names on the map; for groups that occupy regions of it.
    """
    figure, coordinates = go.Figure(), np.asarray(coordinates, dtype=np.float32)
    groups = _groups(points)
    members: dict[str | None, list[int]] = {group: [] for group in groups}
    for row, point in enumerate(points):
        members.get(point.group, members.setdefault(_OTHERS, [])).append(row)
    is_large = len(points) > _LARGE_MAP
    for number, (group, rows) in enumerate(item for item in members.items() if item[1]):
        trace = _group_trace([points[row] for row in rows], coordinates[rows], group, number, is_large=is_large)
        figure.add_trace(trace)
    traces = list(figure.data)
    if named and len(groups) <= _MOST_NAMES:
        _name_groups(figure, coordinates)
    if len(points) <= _MOST_HALOS:
        figure.add_traces([_halo(trace) for trace in traces])
        # Halos are drawn below the points.
        figure.data = figure.data[len(traces) :] + figure.data[: len(traces)]
    selected_rows = [row for row, point in enumerate(points) if point.id == selected]
    if selected_rows:
        figure.add_trace(_ring(coordinates[selected_rows]))
    figure.update_layout(
        height=600,
        margin=_MARGIN,
        uirevision="map",
        dragmode="select",
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "itemsizing": "constant"},
    )
    for update, values in zip((figure.update_xaxes, figure.update_yaxes), coordinates.T, strict=True):
        update(showticklabels=False, zeroline=False, showline=False, showgrid=False, range=_padded_range(values))
    return figure


def _padded_range(values: NDArray[np.floating]) -> list[float]:
    """Return the range of an axis, with room for names beside the outermost groups."""
    lowest, highest = float(values.min()), float(values.max())
    room = 0.14 * (highest - lowest) or 1.0
    return [lowest - room, highest + room]


def _groups(points: Sequence[MapPoint]) -> list[str | None]:
    """Return the groups that get a colour, in the order of their first points; None, if present, comes last."""
    sizes = Counter(point.group for point in points)
    largest = {group for group, _ in sizes.most_common(MOST_GROUPS)}
    ordered = [group for group in dict.fromkeys(point.group for point in points) if group in largest]
    return [*(group for group in ordered if group is not None), *(group for group in ordered if group is None)]


def _group_trace(
    points: Sequence[MapPoint], coordinates: NDArray[np.floating], group: str | None, number: int, *, is_large: bool
) -> go.Scattergl:
    name, labels = group or "in no group", [point.label for point in points]
    shown = [figure_text(label) for label in labels]
    marker = {
        "size": 6 if is_large else 12,
        "symbol": SYMBOLS[number % len(SYMBOLS)],
        "color": CATEGORIES[number % len(CATEGORIES)],
        "line": {"width": 0 if is_large else 1, "color": "rgba(255, 255, 255, 0.7)"},
    }
    if group in (None, _OTHERS):
        marker |= {"symbol": "circle-open", "color": QUIET, "size": 5 if is_large else 10}
        marker["line"] = {"width": 1 if is_large else 2}
    return go.Scattergl(
        x=coordinates[:, 0],
        y=coordinates[:, 1],
        mode="markers",
        name=figure_text(name),
        marker=marker,
        legendgroup=group or "",
        unselected={"marker": {"opacity": 0.25}},
        customdata=np.array([point.id for point in points], dtype=np.int32),
        text=labels,  # a selection returns it as it is
        hovertext=shown if shown != labels else None,
        hovertemplate=f"<b>%{{{'hovertext' if shown != labels else 'text'}}}</b><br>{figure_text(name)}<extra></extra>",
    )


def _name_groups(figure: go.Figure, coordinates: NDArray[np.floating]) -> None:
    """Write each group's name at its side with the most space to all points and earlier names."""
    size = np.ptp(coordinates, axis=0) + np.finfo(float).tiny
    occupied = coordinates
    for trace in figure.data:
        if trace.marker.color != QUIET:
            own = np.column_stack([trace.x, trace.y])
            (left, bottom), (x, y), (right, top) = own.min(axis=0), np.median(own, axis=0), own.max(axis=0)
            sides = [((x, top), (0, 22)), ((x, bottom), (0, -22)), ((right, y), (44, 0)), ((left, y), (-44, 0))]
            positions = [np.array(at) + np.array(shift) / (700, 500) * size for at, shift in sides]
            spaces = [float(np.min(np.hypot(*((occupied - position) / size).T))) for position in positions]
            best = int(np.argmax(spaces))
            (x, y), (x_shift, y_shift) = sides[best]
            occupied = np.vstack([occupied, positions[best]])
            figure.add_annotation(
                x=x,
                y=y,
                xshift=x_shift,
                yshift=y_shift,
                text=f"<b>{trace.name}</b>",
                font={"color": trace.marker.color, "size": 14},
                showarrow=False,
            )


def _halo(trace: go.Scattergl) -> go.Scattergl:
    """Return a soft cloud under a group; it is hidden together with the group and can't be selected."""
    return go.Scattergl(
        x=trace.x,
        y=trace.y,
        mode="markers",
        marker={"size": 52, "color": trace.marker.color, "opacity": 0.07},
        unselected={"marker": {"opacity": 0.07}},
        legendgroup=trace.legendgroup,
        showlegend=False,
        hoverinfo="skip",
    )


def _ring(coordinates: NDArray[np.floating]) -> go.Scattergl:
    return go.Scattergl(
        x=coordinates[:, 0],
        y=coordinates[:, 1],
        mode="markers",
        marker={"symbol": "circle-open", "size": 24, "color": ALERT, "line": {"width": 3}},
        hoverinfo="skip",
        showlegend=False,
    )
