"""Costs: in money where there are prices, else in prompt tokens."""

from __future__ import annotations

import pytest

from deltadex.advise.costs import Tariff, Usage
from deltadex.setting_groups import CostSettings

PROMPTED, TRAINED = Usage(500, 400), Usage(100, 0, training=40_000)


def test_without_prices_costs_are_in_tokens() -> None:
    tariff = Tariff.of(CostSettings(), 1_000)
    assert tariff.unit == "prompt tokens"
    assert tariff.of_call(PROMPTED) == 500
    assert tariff.of_training(TRAINED) == 120_000, "each is read forward and backward"
    assert tariff.of_year(PROMPTED) == 12_000 * 500
    assert tariff.of_year(TRAINED) == 12_000 * 100 + 120_000
    assert tariff.break_even_calls(PROMPTED, TRAINED) == 120_000 / 400


def test_with_prices_they_are_money() -> None:
    tariff = Tariff.of(CostSettings(million_prompt_tokens=2, million_training_tokens=50, currency="EUR"), 1_000)
    assert tariff.unit == "EUR"
    assert tariff.of_call(PROMPTED) == pytest.approx(0.001)
    assert tariff.of_year(PROMPTED) == pytest.approx(12)
    assert tariff.of_training(TRAINED) == pytest.approx(2)
    assert tariff.break_even_calls(PROMPTED, TRAINED) == pytest.approx(2 / 0.0008)


def test_the_hour_of_a_gpu_prices_training_tokens_by_the_measured_speed() -> None:
    tariff = Tariff.of(CostSettings(million_prompt_tokens=1, gpu_hour=4), None, training_rate=2_000_000)
    assert tariff.of_training(Usage(100, 0, training=1_000_000)) == pytest.approx(2)


def test_without_a_volume_a_year_has_no_cost() -> None:
    assert Tariff.of(CostSettings(), None).of_year(PROMPTED) is None


def test_a_prompt_without_more_tokens_never_costs_more_than_training() -> None:
    assert Tariff().break_even_calls(Usage(100), TRAINED) is None
