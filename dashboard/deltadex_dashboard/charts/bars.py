"""Bar charts in plain HTML. A chart library would double the browser's work on the first page. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from deltadex.reports.colors import STATE_COLORS
from deltadex.types import State, VersionRow
from deltadex_dashboard.charts.colors import ALERT, CALM

#: From left to right; deleted versions and models of other kinds are not shown.
_STATES = (
    State.EMBEDDED, State.RUNNING, State.QUEUED, State.DISCOVERED, State.WAITING, State.UNSUPPORTED, State.FAILED,
)  # fmt: skip
_REGISTERED, _EMBEDDED = "#b9c6e4", STATE_COLORS[State.EMBEDDED].html
_DECIDED = "#8a5a00"
_TALLEST_REM = 5.0


@dataclass(frozen=True)
class Week:
    """Versions registered and embedded, and decisions made, in the week that begins on `monday` (UTC)."""

    monday: date
    registered: int
    embedded: int
    decided: int


def weeks(
    versions: Sequence[VersionRow], decided: Sequence[datetime] = (), *, now: datetime, count: int = 12
) -> list[Week]:
    """Return the last `count` weeks, the current one last. Each version counts in the week of its latest embedding.

    Parameters
    ----------
    decided
        Times of decisions.
    """
    registered = Counter(_monday(row.registered_at) for row in versions)
    embedded = Counter(_monday(row.state_since) for row in versions if row.state is State.EMBEDDED)
    decisions = Counter(map(_monday, decided))
    mondays = [_monday(now) - timedelta(weeks=back) for back in reversed(range(count))]
    return [Week(monday, registered[monday], embedded[monday], decisions[monday]) for monday in mondays]


def weeks_bars(shown: Sequence[Week]) -> str:
    """Return HTML with three bars per week."""
    highest = max((max(week.registered, week.embedded, week.decided) for week in shown), default=0) or 1
    columns = "".join(
        f'<div style="flex:1;min-width:0;text-align:center;white-space:nowrap" title="{_tooltip(week)}">'
        f'<div style="display:flex;gap:2px;align-items:flex-end;height:{_TALLEST_REM}rem">'
        f"{_bar(week.registered / highest, _REGISTERED)}{_bar(week.embedded / highest, _EMBEDDED)}"
        f"{_bar(week.decided / highest, _DECIDED)}</div>"
        # There is room for every second date only; the current week has one.
        f"{'' if weeks_ago % 2 else format(week.monday, '%d.%m.')}</div>"
        for weeks_ago, week in zip(reversed(range(len(shown))), shown, strict=True)
    )
    totals = (
        ("registered", _REGISTERED, sum(week.registered for week in shown)),
        ("embedded", _EMBEDDED, sum(week.embedded for week in shown)),
        ("decisions", _DECIDED, sum(week.decided for week in shown)),
    )
    legends = "".join(_legend(color, f"{name} {total:,}") for name, color, total in totals)
    return f'<div style="display:flex;gap:.4rem;font-size:.75rem">{columns}</div>{_legends(legends)}'


def states_bar(counts: Mapping[State, int]) -> str:
    """Return HTML for one bar with the number of versions per state; empty states are left out."""
    shown = [(state, STATE_COLORS[state].html, count) for state in _STATES if (count := counts.get(state, 0))]
    parts = "".join(
        f'<div style="flex:{count} 0 1.5rem;background:{color};padding:.6rem 0">{count:,}</div>'
        for _, color, count in shown
    )
    legends = "".join(_legend(color, f"{state} {count:,}") for state, color, count in shown)
    return (
        '<div style="display:flex;color:#fff;font-size:.8rem;text-align:center;border-radius:.3rem;overflow:hidden">'
        f"{parts}</div>{_legends(legends)}"
    )


def _bar(share: float, color: str) -> str:
    return f'<div style="flex:1;height:{share:.1%};background:{color}"></div>'


def _legend(color: str, text: str) -> str:
    return f'<span><i style="display:inline-block;width:.8rem;height:.8rem;background:{color}"></i> {text}</span>'


def _legends(inner: str) -> str:
    style = "display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.85rem;margin-top:.6rem"
    return f'<div style="{style}">{inner}</div>'


def _tooltip(week: Week) -> str:
    numbers = f"{week.registered:,} registered, {week.embedded:,} embedded, {week.decided:,} decisions"
    return f"Week of {week.monday}: {numbers}"


def _monday(moment: datetime) -> date:
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def signed_bar(value: float, *, signed: bool) -> str:
    """Return HTML for a bar of a cosine similarity.

    Parameters
    ----------
    signed
        True for a bar that starts in the middle and goes to the left for a negative value; else it starts at the left.
    """
    start, span = (50, 50) if signed else (0, 100)
    width = min(abs(value), 1.0) * span
    left = start - width if value < 0 else start
    color = ALERT if value < 0 else CALM
    middle = '<div style="position:absolute;left:50%;top:-3px;bottom:-3px;width:1px;background:currentColor"></div>'
    return (
        '<div style="position:relative;height:.5rem;border-radius:.25rem;background:rgba(128,140,160,.2)">'
        f'<div style="position:absolute;left:{left:.1f}%;width:{width:.1f}%;height:100%;background:{color}"></div>'
        f"{middle if signed else ''}</div>"
    )
