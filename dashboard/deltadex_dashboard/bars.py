"""Bars in plain HTML. Pure: values in, text out; a chart library would double what the first page costs the browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from deltadex.domain import State, VersionRow

_STATE_COLORS: Mapping[State, str] = {
    State.EMBEDDED: "#2a9d74",
    State.RUNNING: "#8e62c9",
    State.QUEUED: "#4c78dd",
    State.DISCOVERED: "#7d879b",
    State.WAITING: "#c9a227",
    State.UNSUPPORTED: "#b8700f",
    State.FAILED: "#d1495b",
}
_REGISTERED, _EMBEDDED = "#b9c6e4", _STATE_COLORS[State.EMBEDDED]
_TALLEST_REM = 5.0


@dataclass(frozen=True)
class Week:
    """How many versions were registered, and how many embedded, in the week that begins on this Monday (UTC)."""

    monday: date
    registered: int
    embedded: int


def weeks(versions: Sequence[VersionRow], *, now: datetime, count: int = 12) -> list[Week]:
    """Return the last weeks, the present one at the end; of an embedding that was made again the last time counts."""
    registered = Counter(_monday(_registered_at(row)) for row in versions)
    embedded = Counter(_monday(row.state_since) for row in versions if row.state is State.EMBEDDED)
    mondays = [_monday(now) - timedelta(weeks=back) for back in reversed(range(count))]
    return [Week(monday, registered[monday], embedded[monday]) for monday in mondays]


def weeks_bars(shown: Sequence[Week]) -> str:
    """Return HTML for two bars per week."""
    most = max((max(week.registered, week.embedded) for week in shown), default=0) or 1
    columns = "".join(
        f'<div style="flex:1;min-width:0;text-align:center;white-space:nowrap" title="{_spoken(week)}">'
        f'<div style="display:flex;gap:2px;align-items:flex-end;height:{_TALLEST_REM}rem">'
        f"{_bar(week.registered / most, _REGISTERED)}{_bar(week.embedded / most, _EMBEDDED)}</div>"
        # For a day each there is no room; the present week has its own.
        f"{'' if left % 2 else format(week.monday, '%d.%m.')}</div>"
        for left, week in zip(reversed(range(len(shown))), shown, strict=True)
    )
    totals = (
        ("registered", _REGISTERED, sum(week.registered for week in shown)),
        ("embedded", _EMBEDDED, sum(week.embedded for week in shown)),
    )
    words = "".join(_legend(color, f"{name} {total:,}") for name, color, total in totals)
    return f'<div style="display:flex;gap:.4rem;font-size:.75rem">{columns}</div>{_legends(words)}'


def states_bar(counts: Mapping[State, int]) -> str:
    """Return HTML for one bar that shows how many versions are in which state; states without any are left out."""
    shown = [(state, color, count) for state, color in _STATE_COLORS.items() if (count := counts.get(state, 0))]
    parts = "".join(
        f'<div style="flex:{count} 0 1.5rem;background:{color};padding:.6rem 0">{count:,}</div>'
        for _, color, count in shown
    )
    words = "".join(_legend(color, f"{state} {count:,}") for state, color, count in shown)
    return (
        '<div style="display:flex;color:#fff;font-size:.8rem;text-align:center;border-radius:.3rem;overflow:hidden">'
        f"{parts}</div>{_legends(words)}"
    )


def _bar(share: float, color: str) -> str:
    return f'<div style="flex:1;height:{share:.1%};background:{color}"></div>'


def _legend(color: str, text: str) -> str:
    return f'<span><i style="display:inline-block;width:.8rem;height:.8rem;background:{color}"></i> {text}</span>'


def _legends(inner: str) -> str:
    style = "display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.85rem;margin-top:.6rem"
    return f'<div style="{style}">{inner}</div>'


def _spoken(week: Week) -> str:
    return f"Week of {week.monday}: {week.registered:,} registered, {week.embedded:,} embedded"


def _registered_at(row: VersionRow) -> datetime:
    """Return when a version was registered; of a masked one that is not told, and when it was first seen is near."""
    created_ms = row.registered.ref.created_ms
    return datetime.fromtimestamp(created_ms / 1000, UTC) if created_ms else row.discovered_at


def _monday(moment: datetime) -> date:
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())
