"""Charts of the geometry: measured values over their null distributions. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from deltadex.geometry.chance import NumberByChance
from deltadex.geometry.galaxy import Galaxy
from deltadex_dashboard.charts.colors import CATEGORIES, QUIET
from deltadex_dashboard.charts.overview import chart_of, layered

_MEASURED = CATEGORIES[0]
#: The layers of each chart and their colours.
_SPECTRUM = {"your models": _MEASURED, "random models": QUIET, "95 % of random models": QUIET}
_AGAINST_CHANCE = {"measured": _MEASURED, "95 % of random results": QUIET}


def spectrum_chart(galaxy: Galaxy) -> alt.LayerChart:
    """Return a chart of each direction's share of the variance, over the range of 95 % of random models."""
    rows = [
        {"direction": rank, "share": own, "low": low, "median": median, "high": high}
        for rank, (own, low, median, high) in enumerate(zip(galaxy.spectrum, *galaxy.chance, strict=True), start=1)
    ]
    is_above = f"datum.direction <= {galaxy.directions}"
    # Shares that are only rounding errors would compress the rest of the axis.
    lowest = max(min(*galaxy.spectrum, *galaxy.chance[0]), 1e-3)
    highest = max(*galaxy.spectrum, *galaxy.chance[2])
    scale = alt.Scale(type="log", domain=[lowest / 1.2, highest * 1.2], nice=False, clamp=True)
    x = alt.X("direction:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="d", tickCount=8))
    y, axis = "share of the differences", alt.Axis(format=".1%", tickCount=6)
    percent = [
        alt.Tooltip("direction:Q"),
        alt.Tooltip("share:Q", title="your models", format=".1%"),
        alt.Tooltip("median:Q", title="by chance", format=".1%"),
    ]
    base = chart_of(rows).encode(x=x)
    yours, chance, band = (_named(base, name, _SPECTRUM) for name in _SPECTRUM)
    own = alt.Y("share:Q", title=y, scale=scale, axis=axis)
    return layered(
        band.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", title=y, scale=scale, axis=axis), y2="high:Q"),
        chance.mark_line(strokeDash=[2, 3]).encode(y=alt.Y("median:Q", scale=scale)),
        yours.mark_line().encode(y=own),
        base.mark_point(opacity=1, color=_MEASURED).encode(
            y=own,
            shape=alt.condition(is_above, alt.value("diamond"), alt.value("circle")),
            size=alt.condition(is_above, alt.value(120), alt.value(40)),
            fill=alt.condition(is_above, alt.value(_MEASURED), alt.value("transparent")),
            tooltip=percent,
        ),
        height=360,
    )


def against_chance_chart(numbers: Sequence[tuple[str, NumberByChance, bool]], *, title: str) -> alt.LayerChart:
    """Return a chart with one row per number: a bar for its range by chance, and a diamond if it is significant.

    Parameters
    ----------
    numbers
        `(name, number, is significant)` from top to bottom, all in the unit of `title`.
    """
    rows = [
        {
            "name": name,
            "value": number.value,
            "low": number.chance.low,
            "high": number.chance.high,
            "p": number.p_value,
            "found": is_found,
        }
        for name, number, is_found in numbers
    ]
    base = chart_of(rows).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=320)),
        tooltip=[
            alt.Tooltip("name:N", title=" "),
            alt.Tooltip("value:Q", title=title, format=".2f"),
            alt.Tooltip("p:Q", title="p", format=".3f"),
        ],
    )
    measured, chance = (_named(base, name, _AGAINST_CHANCE) for name in _AGAINST_CHANCE)
    return layered(
        chance.mark_bar(opacity=0.25, size=14).encode(x=alt.X("low:Q", title=title), x2="high:Q"),
        measured.mark_point(opacity=1, size=150).encode(
            x=alt.X("value:Q", title=title),
            shape=alt.condition("datum.found", alt.value("diamond"), alt.value("circle")),
            fill=alt.condition("datum.found", alt.value(_MEASURED), alt.value("transparent")),
        ),
        height=130 + 34 * len(rows),
    )


def _named(layer: alt.Chart, name: str, colors: Mapping[str, str]) -> alt.Chart:
    """Return a layer with its colour and an entry in the legend."""
    scale = alt.Scale(domain=list(colors), range=list(colors.values()))
    color = alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", symbolOpacity=1))
    return layer.transform_calculate(kind=f"'{name}'").encode(color=color)
