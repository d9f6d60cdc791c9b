"""Geometry charts, checked by their specification."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.geometry.chance import measured
from deltadex.geometry.galaxy import Galaxy, galaxy
from deltadex_dashboard.charts.geometry import against_chance_chart, spectrum_chart
from tests.dashboard.specs import layers
from tests.synthetic import families


def test_the_spectrum_lies_over_the_band_of_chance_and_marks_what_is_above() -> None:
    found = galaxy(families([6] * 4, spread=0.5))
    assert isinstance(found, Galaxy)
    band, chance, own, points = layers(spectrum_chart(found))
    assert all(row["low"] <= row["median"] <= row["high"] for row in band["rows"])
    assert sum(row["share"] for row in own["rows"]) == pytest.approx(1)
    assert chance["encoding"]["y"]["field"] == "median"
    assert found.directions == 3
    assert points["encoding"]["shape"]["condition"] == {"test": "datum.direction <= 3", "value": "diamond"}


def test_a_number_beyond_chance_has_another_symbol_than_one_within() -> None:
    null = np.linspace(-1, 1, 99)
    numbers = [("far", measured(2, null), True), ("near", measured(0, null), False)]
    bars, points = layers(against_chance_chart(numbers, title="score"))
    far, near = points["rows"]
    assert [(one["name"], one["value"], one["found"]) for one in (far, near)] == [("far", 2, True), ("near", 0, False)]
    assert points["encoding"]["shape"]["condition"] == {"test": "datum.found", "value": "diamond"}
    assert (bars["encoding"]["x"]["field"], bars["encoding"]["x2"]["field"]) == ("low", "high")
    assert (far["low"], far["high"]) == pytest.approx((-0.95, 0.95))
