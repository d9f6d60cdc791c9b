"""What the figures of the geometry show can be read off them."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.analysis.geometry.chance import measured
from deltadex.analysis.geometry.galaxy import Galaxy, galaxy
from deltadex_dashboard.geometry_figures import against_chance_figure, spectrum_figure
from tests.analysis.vectors import families


def test_the_spectrum_lies_over_the_band_of_chance_and_marks_what_is_above() -> None:
    found = galaxy(families([6] * 4, spread=0.5))
    assert isinstance(found, Galaxy)
    high, low, chance, own = spectrum_figure(found).data
    assert np.all(np.asarray(low.y) <= np.asarray(chance.y))
    assert np.all(np.asarray(chance.y) <= np.asarray(high.y))
    assert np.sum(own.y) == pytest.approx(1)
    assert list(own.marker.symbol).count("diamond") == found.directions == 3


def test_a_number_beyond_chance_has_another_symbol_than_one_within() -> None:
    null = np.linspace(-1, 1, 99)
    numbers = [("far", measured(2, null), True), ("near", measured(0, null), False)]
    bars, points = against_chance_figure(numbers, title="score").data
    assert list(points.y) == ["far", "near"]
    assert list(points.x) == [2, 0]
    assert list(points.marker.symbol) == ["diamond", "circle-open"]
    assert bars.base[0] == pytest.approx(-0.95)
    assert bars.base[0] + bars.x[0] == pytest.approx(0.95)
