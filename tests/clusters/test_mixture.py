"""Mixtures: true components are found, others are not, and the rest is reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.clusters.mixture import mixture
from tests.synthetic import vectors

DIMENSION = 256


def directions(count: int, *, shared: float = 0.0) -> np.ndarray:
    """Random unit directions, of which `shared` of the energy is the same in all."""
    generator = np.random.default_rng(7)
    own = generator.normal(size=(count, DIMENSION))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    return np.sqrt(1 - shared) * own[:] + np.sqrt(shared) * np.eye(DIMENSION)[0]


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_a_mixture_is_taken_apart_into_what_was_mixed(shared: float) -> None:
    axes = directions(6, shared=shared)
    noise = np.random.default_rng(1).normal(size=DIMENSION) / np.sqrt(DIMENSION)
    found = mixture(0.7 * axes[1] + 0.3 * axes[4] + 0.2 * noise, axes * 12)
    assert set(np.flatnonzero(found.weights)) == {1, 4}
    assert found.shares[[1, 4]] == pytest.approx([0.7, 0.3], abs=0.06)
    assert 0.02 < found.unexplained < 0.12


def test_what_no_direction_has_is_left_unexplained() -> None:
    axes = directions(3)
    against = mixture(-axes.sum(axis=0), axes)
    assert (against.unexplained, against.weights.any(), against.shares.any()) == (1.0, False, False)
    half = mixture(axes[0] + np.linalg.norm(axes[0]) * np.linalg.qr(axes.T, mode="complete").Q[:, -1], axes)
    assert half.unexplained == pytest.approx(0.5)


def test_of_equal_directions_one_takes_part() -> None:
    axis = directions(1)[0]
    found = mixture(axis, np.stack([axis, axis, axis]))
    assert np.count_nonzero(found.weights) == 1
    assert found.weights.sum() == pytest.approx(1)


@given(vectors(min_rows=2), st.integers(-6, 6))
def test_shares_are_shares_and_length_is_nothing(rows: np.ndarray, doublings: int) -> None:
    rows = rows[rows.any(axis=1)]
    if len(rows) < 2:
        return
    found = mixture(rows[0], rows[1:])
    assert (found.weights >= 0).all()
    assert 0 <= found.unexplained <= 1
    assert found.shares.sum() == pytest.approx(1 if found.weights.any() else 0)
    # The rest is orthogonal to nothing it could still take up: no more is explained than least squares explain.
    fit, *_ = np.linalg.lstsq(rows[1:].T.astype(float), rows[0].astype(float), rcond=None)
    rest = rows[0] - rows[1:].T @ fit
    assert found.unexplained >= rest @ rest / (rows[0] @ rows[0]) - 1e-6
    # By powers of two, which round nothing: a gain may lie on the limit to the last bit.
    assert mixture(rows[0] * 2.0**doublings, rows[1:]).unexplained == pytest.approx(found.unexplained, abs=1e-6)
