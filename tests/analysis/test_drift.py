"""Drift between consecutive versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from deltadex.analysis.drift import drift
from tests.analysis.vectors import vectors


def test_direction_and_strength_are_told_apart() -> None:
    stronger, turned = drift(np.array([[1, 0], [3, 0], [0, 3]], dtype=np.float32))
    assert (stronger.distance, stronger.norm_ratio) == (pytest.approx(0), pytest.approx(3))
    assert (turned.distance, turned.norm_ratio, turned.from_first) == (pytest.approx(1), pytest.approx(1), 1)


@given(vectors())
def test_there_is_a_step_between_every_two_versions(rows: np.ndarray) -> None:
    steps = drift(rows)
    assert len(steps) == max(0, len(rows) - 1)
    assert all(0 <= step.distance <= 2 and 0 <= step.from_first <= 2 for step in steps)


def test_a_version_that_changed_nothing_gives_no_ratio() -> None:
    assert drift(np.array([[0, 0], [1, 0]]))[0].norm_ratio is None
