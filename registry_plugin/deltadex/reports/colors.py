"""Colours of states, statuses and severities, the same at a terminal and on pages. A word always stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deltadex.findings.kinds import Severity
from deltadex.reviews.lifecycle import Status
from deltadex.types import State


@dataclass(frozen=True)
class Color:
    """One colour: as Rich calls it, as Streamlit's badges call it, and for HTML."""

    terminal: str
    badge: str
    html: str


_GRAY = Color("dim", "gray", "#7d879b")
_BLUE = Color("cyan", "blue", "#4c78dd")
_VIOLET = Color("magenta", "violet", "#8e62c9")
_YELLOW = Color("yellow", "yellow", "#c9a227")
_ORANGE = Color("dark_orange", "orange", "#b8700f")
_GREEN = Color("green", "green", "#2a9d74")
_RED = Color("red", "red", "#d1495b")

STATE_COLORS: Mapping[State, Color] = {
    State.DISCOVERED: _GRAY,
    State.QUEUED: _BLUE,
    State.RUNNING: _VIOLET,
    State.WAITING: _YELLOW,
    State.EMBEDDED: _GREEN,
    State.UNSUPPORTED: _ORANGE,
    State.SKIPPED: _GRAY,
    State.FAILED: _RED,
    State.DELETED: _GRAY,
}
STATUS_COLORS: Mapping[Status, Color] = {
    Status.OPEN: _BLUE,
    Status.IN_REVIEW: _VIOLET,
    Status.ACCEPTED: _GREEN,
    Status.DISMISSED: _GRAY,
    Status.FIXED: _GREEN,
}
SEVERITY_COLORS: Mapping[Severity, Color] = {
    Severity.HIGH: _RED,
    Severity.MEDIUM: _ORANGE,
    Severity.LOW: _GRAY,
}
