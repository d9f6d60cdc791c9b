"""The map as a Plotly figure: ten thousand points in WebGL, selectable by box and lasso. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from deltadex.escaping import figure_text
from deltadex_dashboard.charts.colors import ALERT, CALM, CATEGORIES, QUIET, TEXT_COLORS

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
#: Opacity of points that a search does not match.
_FADED = 0.12
#: Name of the rings around versions in a cluster of mostly another declared domain.
ELSEWHERE = "lies elsewhere"
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
    card
        What is shown under its label on hover; see `hover_cards`.
    lies_elsewhere
        True for a ring around the point: its cluster is mostly of another declared domain.
    is_faded
        True for a point that a search does not match.
    """

    id: int
    label: str
    group: str | None
    card: str = ""
    lies_elsewhere: bool = False
    is_faded: bool = False


def hover_cards(facts: Sequence[Sequence[tuple[str, str | None]]]) -> list[str]:
    """Return Plotly's HTML for the named facts of each point; facts without a value are left out.

    A small map has one fact per line; on a large map names and line breaks would be most of what is sent.
    """
    if len(facts) > _LARGE_MAP:
        return [" · ".join(figure_text(value) for _, value in each if value) for each in facts]
    return ["<br>".join(f"{name}: {figure_text(value)}" for name, value in each if value) for each in facts]


def map_figure(
    points: Sequence[MapPoint],
    coordinates: NDArray[np.floating],
    *,
    selected: int | None = None,
    path: Sequence[int] = (),
    named: bool = True,
    text_color: str = TEXT_COLORS["light"],
) -> go.Figure:
    """Return the map: one trace per group, each with its own colour and symbol; float32 is sent as base64.

    Parameters
    ----------
    points, coordinates
        `n` versions and their `(n, 2)` coordinates. Groups are drawn in the order of their first points.
    selected
        Id of the version that gets a thick ring.
    path
        Ids of the versions of one model, oldest first: arrows lead from each to the next.
    named
        True to write the groups' names on the map; for groups that occupy regions of it.
    text_color
        Colour of the text on the map.
    """
    figure, coordinates = go.Figure(), np.asarray(coordinates, dtype=np.float32)
    members, row_of = _members(points), {point.id: row for row, point in enumerate(points)}
    traces = [
        _group_trace([points[row] for row in rows], coordinates[rows], group, number, is_large=len(points) > _LARGE_MAP)
        for number, (group, rows) in enumerate(members.items())
    ]
    is_searched = any(point.is_faded for point in points)
    # Later traces are drawn on top.
    figure.add_traces([_halo(trace) for trace in traces if len(points) <= _MOST_HALOS and not is_searched])
    steps = [row_of[version_id] for version_id in path if version_id in row_of]
    figure.add_traces([*traces, *_path(coordinates[steps])])
    elsewhere = [row for row, point in enumerate(points) if point.lies_elsewhere and not point.is_faded]
    if elsewhere:
        figure.add_trace(
            _ring(coordinates[elsewhere], name=ELSEWHERE, size=13 if len(points) > _LARGE_MAP else 21, color=ALERT)
        )
    if selected in row_of:
        figure.add_trace(_ring(coordinates[[row_of[selected]]], name="selected", size=30, color=text_color))
    if len(steps) > 1:
        _number_steps(figure, [points[row] for row in steps], coordinates[steps])
    if named and len(members) <= _MOST_NAMES:
        settled = [[row for row in rows if not points[row].lies_elsewhere] or rows for rows in members.values()]
        _name_groups(figure, traces, [coordinates[rows] for rows in settled], coordinates)
    _set_layout(figure, coordinates, text_color)
    return figure


def _set_layout(figure: go.Figure, coordinates: NDArray[np.floating], text_color: str) -> None:
    figure.update_layout(
        height=600,
        margin=_MARGIN,
        uirevision="map",
        font={"color": text_color},  # Streamlit's own is too faint to read
        dragmode="pan",  # with "select" Streamlit lets no click select a point
        hoverlabel={"align": "left"},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "itemsizing": "constant"},
    )
    for update, values in zip((figure.update_xaxes, figure.update_yaxes), coordinates.T, strict=True):
        update(showticklabels=False, zeroline=False, showline=False, showgrid=False, range=_padded_range(values))


def _padded_range(values: NDArray[np.floating]) -> list[float]:
    """Return the range of an axis, with room for names beside the outermost groups."""
    lowest, highest = float(values.min()), float(values.max())
    room = 0.14 * (highest - lowest) or 1.0
    return [lowest - room, highest + room]


def _members(points: Sequence[MapPoint]) -> dict[str | None, list[int]]:
    """Return the rows of each group with a colour, in the order of their first points; None and the rest come last."""
    sizes = Counter(point.group for point in points)
    largest = {group for group, _ in sizes.most_common(MOST_GROUPS)}
    found: dict[str | None, list[int]] = {group: [] for group in sizes if group in largest and group is not None}
    found |= {None: [], _OTHERS: []}
    for row, point in enumerate(points):
        found[point.group if point.group in largest else _OTHERS].append(row)
    return {group: rows for group, rows in found.items() if rows}


def _group_trace(
    points: Sequence[MapPoint], coordinates: NDArray[np.floating], group: str | None, number: int, *, is_large: bool
) -> go.Scattergl:
    labels = [point.label for point in points]
    titles = [figure_text(label) for label in labels]
    plain = titles == labels
    marker: dict[str, Any] = {
        "size": 6 if is_large else 12,
        "symbol": SYMBOLS[number % len(SYMBOLS)],
        "color": CATEGORIES[number % len(CATEGORIES)],
        "line": {"width": 0 if is_large else 1, "color": "rgba(255, 255, 255, 0.7)"},
    }
    if group in (None, _OTHERS):
        marker |= {"symbol": "circle-open", "color": QUIET, "size": 5 if is_large else 10}
        marker["line"] = {"width": 1 if is_large else 2}
    if any(point.is_faded for point in points):
        marker["opacity"] = np.array([_FADED if point.is_faded else 1 for point in points], dtype=np.float32)
    return go.Scattergl(
        x=coordinates[:, 0],
        y=coordinates[:, 1],
        mode="markers",
        name=figure_text(group or "in no group"),
        marker=marker,
        legendgroup=group or "",
        unselected={"marker": {"opacity": 0.25}},
        customdata=np.array([point.id for point in points], dtype=np.int32),
        text=labels,  # a selection returns it as it is
        hovertext=[
            point.card if plain else f"<b>{title}</b><br>{point.card}"
            for point, title in zip(points, titles, strict=True)
        ],
        hovertemplate=f"{'<b>%{text}</b><br>' if plain else ''}%{{hovertext}}<extra></extra>",
    )


def _name_groups(
    figure: go.Figure,
    traces: Sequence[go.Scattergl],
    regions: Sequence[NDArray[np.floating]],
    coordinates: NDArray[np.floating],
) -> None:
    """Write each group's name at the side of its region with the most space to all points and earlier names."""
    size = np.ptp(coordinates, axis=0) + np.finfo(float).tiny
    occupied, lowest, highest = coordinates, coordinates[:, 0].min(), coordinates[:, 0].max()
    for trace, own in zip(traces, regions, strict=True):
        if trace.marker.color != QUIET:
            (left, bottom), (x, y), (right, top) = own.min(axis=0), np.median(own, axis=0), own.max(axis=0)
            sides = [((x, top), (0, 22)), ((x, bottom), (0, -22)), ((right, y), (44, 0)), ((left, y), (-44, 0))]
            positions = [np.array(at) + np.array(shift) / (700, 500) * size for at, shift in sides]
            # Beyond the outermost points a narrow screen cuts names off.
            spaces = [
                float(np.min(np.hypot(*((occupied - position) / size).T)))
                * (1.0 if lowest <= position[0] <= highest else 0.2)
                for position in positions
            ]
            best = int(np.argmax(spaces))
            (x, y), (x_shift, y_shift) = sides[best]
            occupied = np.vstack([occupied, positions[best]])
            figure.add_annotation(
                x=x,
                y=y,
                xshift=x_shift,
                yshift=y_shift,
                # Most colours of groups are too light for text.
                text=f'<span style="color:{trace.marker.color}">\N{BLACK CIRCLE}</span> <b>{trace.name}</b>',
                font={"size": 14},
                showarrow=False,
            )


def _path(coordinates: NDArray[np.floating]) -> list[go.Scatter]:
    """Return arrows from place to place; only SVG traces have them."""
    if len(coordinates) < 2:
        return []
    sizes = [0, *[14] * (len(coordinates) - 1)]
    arrows = {"symbol": "arrow", "angleref": "previous", "standoff": 8, "size": sizes, "color": CALM}
    return [
        go.Scatter(
            x=coordinates[:, 0],
            y=coordinates[:, 1],
            mode="lines+markers",
            line={"color": CALM, "width": 2},
            marker=arrows,
            hoverinfo="skip",
            showlegend=False,
        )
    ]


def _number_steps(figure: go.Figure, points: Sequence[MapPoint], coordinates: NDArray[np.floating]) -> None:
    """Write the version numbers of a path above its points."""
    for point, (x, y) in zip(points, coordinates.tolist(), strict=True):
        figure.add_annotation(x=x, y=y, yshift=20, text=f"<b>v{point.label.rpartition('/')[2]}</b>", showarrow=False)


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


def _ring(coordinates: NDArray[np.floating], *, name: str, size: int, color: str) -> go.Scattergl:
    return go.Scattergl(
        x=coordinates[:, 0],
        y=coordinates[:, 1],
        mode="markers",
        name=name,
        marker={"symbol": "circle-open", "size": size, "color": color, "line": {"width": size / 10}},
        unselected={"marker": {"opacity": 1}},
        hoverinfo="skip",
    )
