"""Projection to two dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.map.projection import project
from tests.synthetic import families


@pytest.mark.parametrize("sizes", [[], [1], [2], [3, 2], [20, 20, 20]])
def test_any_number_of_models_has_a_map_and_always_the_same(sizes: list[int]) -> None:
    rows = families(sizes) if sizes else np.empty((0, 8), np.float32)
    first = project(rows)
    assert first.shape == (len(rows), 2)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(project(rows), first)


@pytest.mark.parametrize("sizes", [[8, 8, 8], [30, 30, 30]])
def test_families_stay_together(sizes: list[int]) -> None:
    points = project(families(sizes))
    family = np.repeat(np.arange(len(sizes)), sizes)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (family[distances.argmin(axis=1)] == family).mean() > 0.9


def test_equal_models_do_not_break_the_map() -> None:
    assert np.isfinite(project(np.ones((60, 4), np.float32))).all()
