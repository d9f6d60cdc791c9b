"""Values with their intervals in plain HTML. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from deltadex.escaping import printable
from deltadex.replay.agreement import Estimate
from deltadex_dashboard.charts.colors import CALM, QUIET

#: Free space on both sides, as a share of the range.
_MARGIN = 0.05


@dataclass(frozen=True)
class IntervalRow:
    """One row: a title, a value, and whether it is the one to look at."""

    title: str
    value: Estimate
    is_chosen: bool = False


def interval_rows(rows: Sequence[IntervalRow], *, unit: str) -> str:
    """Return HTML with a dot and a line per row, all on one scale, each with its numbers."""
    low, high = min(row.value.low for row in rows), max(row.value.high for row in rows)
    span = (high - low) or 1.0
    start, width = low - _MARGIN * span, (1 + 2 * _MARGIN) * span

    def place(value: float) -> float:
        return 100 * (value - start) / width

    drawn = "".join(_row(row, place(row.value.low), place(row.value.value), place(row.value.high)) for row in rows)
    scale = f"<span>{low:.2f}</span><span>{_text(unit)}</span><span>{high:.2f}</span>"
    return (
        f'<div style="font-size:.85rem">{drawn}<div style="display:flex;justify-content:space-between;'
        f'margin-left:34%;opacity:.75">{scale}</div></div>'
    )


def _row(row: IntervalRow, low: float, value: float, high: float) -> str:
    color = CALM if row.is_chosen else QUIET
    weight = "font-weight:600;" if row.is_chosen else ""
    said = f"{row.value.value:.2f} ({row.value.low:.2f} to {row.value.high:.2f})"
    line = (
        f"position:absolute;top:.62rem;height:3px;left:{low:.1f}%;width:{max(0.3, high - low):.1f}%;background:{color}"
    )
    dot = (
        f"position:absolute;top:.38rem;left:calc({value:.1f}% - .3rem);width:.6rem;height:.6rem;border-radius:50%;"
        f"background:{color}"
    )
    return (
        f'<div style="display:flex;align-items:center;{weight}" title="{said}">'
        f'<span style="width:34%;overflow-wrap:anywhere">{_text(row.title)}</span>'
        f'<span style="position:relative;flex:1;height:1.4rem"><i style="{line}"></i><i style="{dot}"></i></span>'
        f'<span style="width:9.5rem;text-align:right">{said}</span></div>'
    )


def _text(text: str) -> str:
    return escape(printable(text))
