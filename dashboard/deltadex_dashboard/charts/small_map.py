"""The map as a small picture, for the overview: a chart library would double the browser's work there."""

from __future__ import annotations

from base64 import b64encode

import numpy as np

from deltadex.map.chart import Chart
from deltadex_dashboard.charts.colors import ALERT, CATEGORIES, QUIET

_WIDTH, _HEIGHT, _MARGIN = 400, 240, 12
#: Points that are drawn; of more, an even selection.
_MOST_POINTS = 2_000
_RING = f' stroke="{ALERT}" stroke-width="2"'


def small_map(chart: Chart) -> str:
    """Return HTML for a picture with a point per version: its colour is the declared domain, a ring says elsewhere."""
    # Streamlit removes SVG from HTML, but shows it as a picture.
    picture = b64encode(_svg(chart).encode()).decode()
    words = f"Map of {len(chart.rows):,} versions, coloured by declared domain"
    return f'<img alt="{words}" style="width:100%" src="data:image/svg+xml;base64,{picture}">'


def _svg(chart: Chart) -> str:
    low, high = chart.coordinates.min(axis=0), chart.coordinates.max(axis=0)
    size = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    places = _MARGIN + (chart.coordinates - low) / np.maximum(high - low, 1e-9) * size
    colors = _colors(chart.domains)
    shown = np.unique(np.linspace(0, len(places) - 1, min(len(places), _MOST_POINTS)).astype(int))
    points = "".join(
        f'<circle cx="{places[row, 0]:.1f}" cy="{_HEIGHT - places[row, 1]:.1f}" r="4" fill="{colors[row]}"'
        f"{_RING if chart.lies_elsewhere[row] else ''}/>"
        for row in shown
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">{points}</svg>'


def _colors(domains: list[str | None]) -> list[str]:
    names = dict.fromkeys(name for name in domains if name)  # in the order of the map's own colours
    color = {name: CATEGORIES[place % len(CATEGORIES)] for place, name in enumerate(names)}
    return [color.get(name or "", QUIET) for name in domains]
