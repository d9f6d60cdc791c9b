"""The map, drawn by Plotly: ten thousand points in WebGL, of which a box or a lasso chooses some.

Pure, as `charts`: values in, figure out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from deltadex_dashboard.colors import ALERT, CATEGORIES, QUIET

#: One per group, so that colour is never the only sign; WebGL draws all of them.
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "pentagon", "star", "hexagram", "triangle-down",
    "cross", "hexagon", "x", "triangle-left", "star-diamond", "triangle-right",
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
        if trace.marker.color != QUIET:
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
        marker={"symbol": "circle-open", "size": 24, "color": ALERT, "line": {"width": 3}},
        hoverinfo="skip",
        showlegend=False,
    )
