"""Colours of charts and of the map."""

from __future__ import annotations

#: Equal to the theme's `chartCategoricalColors`; chosen to be distinguishable with common colour blindness.
CATEGORIES = (
    "#3b6fb6", "#e08a1e", "#2f9e77", "#c2487f", "#7a5cc0", "#a3791f",
    "#3aa0b8", "#d1573d", "#5f8f2f", "#8f5a8f", "#607890", "#b59a00",
)  # fmt: skip
#: References that other values are compared with.
QUIET = "#8a93a6"
CALM = "#4c78dd"
#: Thresholds, and values that need attention.
ALERT = "#d1495b"
#: Low end of heat maps; one of the other colours is the high end.
FAINT = "#eef2fb"
#: Text in figures that do not inherit the page's text colour, by theme; equal to the theme's `textColor`.
TEXT_COLORS = {"light": "#1b2733", "dark": "#e3e9ef"}
