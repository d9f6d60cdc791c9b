"""Scores of the safety benchmark, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.real.safety import MEASURES, Models, area_with_interval, best_depth, is_intact

NAMES = ("refusing", "select-text-0", "select-comply-0", "select-chat-1", "select-ablated-1")


def test_the_interval_of_an_area_is_newcombes() -> None:
    """Sound where a bootstrap is not: at 1 it still says how few models there were."""
    few, many = (area_with_interval(np.arange(count) + 100.0, np.arange(count) * 1.0) for count in (4, 40))
    assert (few.value, few.high, many.value) == (1, 1, 1)
    assert few.low < 0.7 < 0.9 < many.low < 1
    draw = np.random.default_rng(0)
    truth, covered = 0.76, 0
    for _ in range(200):
        found = area_with_interval(draw.normal(1, 1, 20), draw.normal(0, 1, 20))
        covered += found.low <= truth <= found.high
    assert covered >= 180
    none = area_with_interval(np.zeros(4), np.ones(4))
    assert (none.value, none.low) == (0, 0)
    assert none.high > 0.3


def test_the_depth_with_the_widest_margin_is_chosen() -> None:
    projections = np.zeros((5, 10, 4), dtype=np.float32)
    for number, name in enumerate(NAMES):
        keeps = number == 0 or is_intact(name)
        projections[number, :, :2] = 1.0
        projections[number, 4, :2] = 1.0 if keeps else 0.1
    models = Models(NAMES, projections, np.zeros((5, 4), np.float32), np.zeros(5, np.float32))
    measure = next(iter(MEASURES.values()))
    assert best_depth(models, measure) == pytest.approx(0.5)
    intact, collapsed = models.values(measure, 0.5)
    assert (list(intact), list(collapsed)) == ([1.0, 1.0], pytest.approx([0.1, 0.1]))
