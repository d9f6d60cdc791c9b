"""Projection to two dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.map.projection import extend, project
from tests.synthetic import families, vectors


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


def test_a_new_model_moves_no_other_and_a_copy_lies_on_its_original() -> None:
    rows = families([15, 15, 15])
    old = project(rows)
    arrivals = np.vstack([rows, rows[20], families([1], seed=9)])
    found = extend(arrivals, np.vstack([old, np.full((2, 2), np.nan)]))
    extent = np.ptp(old, axis=0).max()
    assert np.abs(found[:45] - old).max() < 0.001 * extent
    assert np.abs(found[45] - old[20]).max() < 0.01 * extent
    assert np.isfinite(found).all()


def test_a_map_that_new_models_have_spoilt_is_made_again_as_the_old_one_lay() -> None:
    rows = families([8, 8, 8, 8, 8, 8])
    old = project(rows[:16])
    found = extend(rows, np.vstack([old, np.full((32, 2), np.nan)]))
    family = np.repeat(np.arange(6), 8)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (family[distances.argmin(axis=1)] == family).mean() > 0.9
    # The two old families lie on the same sides.
    apart, apart_before = (points[:8].mean(axis=0) - points[8:16].mean(axis=0) for points in (found, old))
    assert apart @ apart_before > 0.5 * np.linalg.norm(apart) * np.linalg.norm(apart_before)


@given(vectors(min_rows=1, max_rows=12), st.data())
def test_whatever_arrives_has_a_place(rows: np.ndarray, data: st.DataObject) -> None:
    placed = data.draw(st.integers(0, len(rows)))
    coordinates = np.vstack([project(rows)[:placed], np.full((len(rows) - placed, 2), np.nan)])
    assert np.isfinite(extend(rows, coordinates)).all()
