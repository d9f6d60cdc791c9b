"""Small charts, checked by their specification."""

from __future__ import annotations

import numpy as np

from deltadex_dashboard.charts.overview import measure_chart, similarity_chart
from tests.dashboard.specs import layers


def test_a_number_is_drawn_beside_its_threshold() -> None:
    _, limit, _, found, _ = layers(measure_chart(0.7, 0.5, unit="cosine distance"))
    assert limit["rows"] == [{"value": 0.5, "text": "threshold 0.5"}]
    assert found["rows"] == [{"value": 0.7, "text": "0.7"}]
    low, high = limit["encoding"]["x"]["scale"]["domain"]
    assert low < 0.5 < 0.7 < high


def test_similarities_are_written_into_a_small_heat_map_only() -> None:
    small = layers(similarity_chart(["a/1", "b/1"], np.eye(2)))
    large = layers(similarity_chart([f"m/{number}" for number in range(20)], np.eye(20)))
    assert [layer["mark"]["type"] for layer in small] == ["rect", "text"]
    assert [layer["mark"]["type"] for layer in large] == ["rect"]
    assert small[0]["encoding"]["x"]["scale"]["domain"] == ["a/1", "b/1"]
    assert [cell["similarity"] for cell in small[0]["rows"]] == [1, 0, 0, 1]
