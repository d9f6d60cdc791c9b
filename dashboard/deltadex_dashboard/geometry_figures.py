"""Plotly figures of the geometry: what was measured, over what chance gives. Pure, as in `figures`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from deltadex.analysis.geometry.chance import Measured
from deltadex.analysis.geometry.galaxy import Galaxy
from deltadex_dashboard.figures import COLORS

_CHANCE = "#8a93a6"
_CHANCE_BAND = "rgba(138, 147, 166, 0.25)"
_MEASURED = COLORS[0]
_MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
_LEGEND = {"orientation": "h", "y": -0.2, "yanchor": "top"}


def spectrum_figure(galaxy: Galaxy) -> go.Figure:
    """Return each direction's share of how the models differ, over the band that random models stay within."""
    ranks = np.arange(1, len(galaxy.spectrum) + 1)
    low, median, high = galaxy.chance
    own = galaxy.spectrum
    above = ranks <= galaxy.directions
    figure = go.Figure()
    figure.add_scatter(x=ranks, y=high, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=ranks, y=low, mode="lines", line={"width": 0}, fill="tonexty", fillcolor=_CHANCE_BAND,
        name="95 % of random models", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=ranks, y=median, mode="lines", name="random models", line={"dash": "dot", "color": _CHANCE},
        hovertemplate="by chance %{y:.1%}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=ranks, y=own, mode="lines+markers", name="your models", line={"color": _MEASURED},
        marker={"size": np.where(above, 10, 6), "symbol": np.where(above, "diamond", "circle-open")},
        hovertemplate="direction %{x}: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(height=360, margin=_MARGIN, legend=_LEGEND)
    figure.update_xaxes(title="direction", type="log", dtick="D1" if len(ranks) < 20 else "D2")
    # What is rounding only would squeeze all the rest.
    lowest = max(min(*own, *low), 1e-3)
    highest = max(*own, *high)
    figure.update_yaxes(
        title="share of the differences", type="log", tickformat=".1%",
        range=[np.log10(lowest / 1.2), np.log10(highest * 1.2)],
    )  # fmt: skip
    return figure


def against_chance_figure(numbers: Sequence[tuple[str, Measured, bool]], *, title: str) -> go.Figure:
    """Return one line for each number: a bar where chance puts it, and where it is: a diamond if that is found.

    Parameters
    ----------
    numbers
        Each with its name and whether it is more than chance; the first one on top. All in one unit: `title` says it.
    """
    names = [name for name, _, _ in numbers]
    chances = [measured.chance for _, measured, _ in numbers]
    figure = go.Figure()
    figure.add_bar(
        x=[chance.high - chance.low for chance in chances], base=[chance.low for chance in chances], y=names,
        orientation="h", name="95 % of what chance gives", marker={"color": _CHANCE_BAND, "line": {"width": 0}},
        width=0.5, hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=[measured.value for _, measured, _ in numbers], y=names, mode="markers", name="measured",
        marker={
            "size": 13,
            "color": _MEASURED,
            "symbol": ["diamond" if is_found else "circle-open" for _, _, is_found in numbers],
        },
        customdata=[measured.p_value for _, measured, _ in numbers],
        hovertemplate="%{y}<br>%{x:.2f}, p = %{customdata:.3f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        height=130 + 34 * len(names), margin=_MARGIN, legend=_LEGEND | {"y": -60 / (70 + 34 * len(names))}
    )
    figure.update_xaxes(title=title)
    figure.update_yaxes(type="category", autorange="reversed")
    return figure
