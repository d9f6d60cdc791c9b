"""Layers of a chart's Vega-Lite specification."""

from __future__ import annotations

from typing import Any

import altair as alt


def layers(chart: alt.LayerChart) -> list[dict[str, Any]]:
    """Return the layers of a chart that passed the schema's validation, the lowest first, each with its rows."""
    spec = chart.to_dict()
    # Rows that all layers share are in the parent.
    return [layer | {"rows": spec["datasets"][(spec | layer)["data"]["name"]]} for layer in spec["layer"]]
