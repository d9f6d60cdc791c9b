"""Small charts and shared parts of charts, drawn by Vega. Pure functions, without Streamlit.

Vega costs the browser a quarter of Plotly, which only the map needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
from numpy.typing import NDArray

from deltadex_dashboard.charts.colors import ALERT, CALM, FAINT, QUIET

#: Maximum number of rows and columns of a heat map with numbers.
_MOST_NUMBERED = 12
#: Maximum length of horizontal names below a heat map; longer ones are written at an angle.
_SHORT_NAME = 6


def measure_chart(measure: float, threshold: float, *, unit: str) -> alt.LayerChart:
    """Return a chart of a number and its threshold on a line."""
    low, high = min(measure, threshold), max(measure, threshold)
    room = max(high - low, 0.02 * max(abs(high), 1e-3)) * 0.6
    x = alt.X("value:Q", title=unit, scale=alt.Scale(domain=[low - room, high + room], nice=False), axis=None)
    line, limit, value = (
        chart_of(values).encode(x=x)
        for values in (
            [{"value": low - room}, {"value": high + room}],
            [{"value": threshold, "text": f"threshold {threshold:.4g}"}],
            [{"value": measure, "text": f"{measure:.4g}"}],
        )
    )
    return layered(
        line.mark_line(color=QUIET),
        limit.mark_tick(color=ALERT, thickness=2, size=26),
        limit.mark_text(color=ALERT, dy=24, fontSize=13).encode(text="text:N"),
        value.mark_point(color=ALERT, shape="diamond", size=160, filled=True, opacity=1),
        value.mark_text(color=ALERT, dy=-20, fontSize=15, fontWeight="bold").encode(text="text:N"),
        height=110,
    )


def similarity_chart(labels: Sequence[str], similarity: NDArray[np.float64]) -> alt.LayerChart:
    """Return a heat map of the `(n, n)` cosine similarities between `n` versions, with numbers if they fit."""
    cells = [
        {"one": one, "other": other, "similarity": float(similarity[row, column])}
        for row, one in enumerate(labels)
        for column, other in enumerate(labels)
    ]
    lowest = min(0.9, float(similarity.min(initial=1.0)))
    color = alt.Color("similarity:Q", scale=alt.Scale(domain=[lowest, 1], range=[FAINT, CALM]), title=None)
    base = heat_map(cells, x=("other", labels), y=("one", labels))
    layers = [base.mark_rect().encode(color=color, tooltip=["one:N", "other:N", number_tooltip("similarity")])]
    if len(labels) <= _MOST_NUMBERED:
        layers.append(base.mark_text(color="#1b2733").encode(text=alt.Text("similarity:Q", format=".3f")))
    return layered(*layers, height=140 + 34 * len(labels))


def chart_of(rows: Sequence[Mapping[str, object]]) -> alt.Chart:
    """Return a chart of rows, without marks."""
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def layered(*layers: alt.Chart, height: int) -> alt.LayerChart:
    """Return charts on top of each other, the last one topmost; height in pixels."""
    return alt.LayerChart(layer=list(layers)).properties(height=height)


def heat_map(
    cells: Sequence[Mapping[str, object]], *, x: tuple[str, Sequence[str]], y: tuple[str, Sequence[str]]
) -> alt.Chart:
    """Return a chart of cells without marks; each axis is a field and its values in order."""
    below = alt.Axis(title=None, labelLimit=220, labelAngle=-40 if any(len(name) > _SHORT_NAME for name in x[1]) else 0)
    return chart_of(cells).encode(
        x=alt.X(f"{x[0]}:O", scale=alt.Scale(domain=list(x[1])), axis=below),
        y=alt.Y(f"{y[0]}:O", scale=alt.Scale(domain=list(y[1])), axis=alt.Axis(title=None, labelLimit=220)),
    )


def number_tooltip(field: str, title: str | None = None) -> alt.Tooltip:
    """Return the tooltip of a number, with four decimals."""
    return alt.Tooltip(f"{field}:Q", title=title or field, format=".4f")
