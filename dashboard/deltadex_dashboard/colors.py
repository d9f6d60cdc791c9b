"""The colours of charts and of the map."""

from __future__ import annotations

#: The same as the theme's `chartCategoricalColors`: distinguishable with the common colour blindnesses where possible.
CATEGORIES = (
    "#3b6fb6", "#e08a1e", "#2f9e77", "#c2487f", "#7a5cc0", "#a3791f",
    "#3aa0b8", "#d1573d", "#5f8f2f", "#8f5a8f", "#607890", "#b59a00",
)  # fmt: skip
#: What is only there to compare with.
QUIET = "#8a93a6"
CALM = "#4c78dd"
#: What needs a person, and thresholds.
ALERT = "#d1495b"
#: Where a heat map begins; it ends in one of the others.
FAINT = "#eef2fb"
