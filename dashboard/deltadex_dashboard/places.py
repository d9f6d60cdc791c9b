"""The six places of the dashboard, and the pages of each. A new page is a file in `screens/` and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Screen:
    """A page of the dashboard.

    Attributes
    ----------
    name
        Its file in `screens/`, and the path of its address.
    label
        Its name within its place.
    """

    name: str
    label: str


#: By title, as in the bar at the top, which opens the first page of each.
PLACES: Mapping[str, tuple[Screen, ...]] = {
    "Overview": (Screen("overview", "Overview"),),
    "Inbox": (Screen("inbox", "Findings"), Screen("duplicates", "Duplicate groups")),
    "Models": (
        Screen("models", "List"),
        Screen("model", "Model"),
        Screen("compare", "Compare"),
        Screen("drift", "Drift"),
        Screen("find", "Find a model"),
        Screen("advise", "Advise"),
    ),
    "Map": (Screen("map", "Map"), Screen("domains", "Domains")),
    "Audit": (Screen("audit", "Log"),),
    "System": (Screen("system", "System"),),
}


def place_of(name: str) -> tuple[Screen, ...]:
    """Return the pages of the place that a page belongs to."""
    return next(screens for screens in PLACES.values() if any(screen.name == name for screen in screens))
