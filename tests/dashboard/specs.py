"""What a chart is made of, as Vega-Lite reads it."""

from __future__ import annotations

from typing import Any

import altair as alt


def layers(chart: alt.LayerChart) -> list[dict[str, Any]]:
    """Return the layers of a chart that passed the schema's validation, the lowest first, each with its rows."""
    spec = chart.to_dict()
    # Rows that all layers share stand above them.
    return [layer | {"rows": spec["datasets"][(spec | layer)["data"]["name"]]} for layer in spec["layer"]]
