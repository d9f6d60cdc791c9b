"""Cosine similarity, and the effect of noise on a delta."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.vectors import NOISE_MARGIN, cosine_similarity, lowest_strength, noise_distance
from tests.synthetic import vectors


@given(vectors())
def test_it_is_symmetric_bounded_and_one_on_the_diagonal(rows: np.ndarray) -> None:
    similarity = cosine_similarity(rows)
    assert similarity.shape == (len(rows), len(rows))
    np.testing.assert_array_equal(similarity, similarity.T)
    assert np.abs(similarity).max(initial=0) <= 1
    np.testing.assert_array_equal(np.diag(similarity), 1)


@given(vectors(min_rows=1), st.floats(1e-6, 1e6))
def test_strength_does_not_matter(rows: np.ndarray, factor: float) -> None:
    scaled = rows.astype(np.float64) * factor
    np.testing.assert_allclose(cosine_similarity(scaled), cosine_similarity(rows), atol=1e-12)


def test_zero_and_extreme_vectors_are_no_trouble() -> None:
    rows = np.array([[0, 0], [1e30, 0], [1e-30, 0], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(cosine_similarity(rows)[1], [0, 1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("strength", [0.04, 0.1, 1.0])
def test_noise_moves_an_embedding_by_the_predicted_distance(strength: float) -> None:
    generator, floor = np.random.default_rng(0), 0.02
    delta = generator.standard_normal(4096)
    delta *= strength / np.linalg.norm(delta)
    one, other = (delta + noise * floor / np.linalg.norm(noise) for noise in generator.standard_normal((2, 4096)))
    distance = 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert distance == pytest.approx(float(noise_distance(strength, strength, floor)), abs=0.02)


def test_at_the_lowest_strength_two_noisy_copies_are_near_duplicates() -> None:
    strength = lowest_strength(0.01, 0.02)
    assert strength == NOISE_MARGIN * 0.02
    assert 0.95 < 1 - noise_distance(strength, strength, 0.02) < 0.97


def test_without_noise_the_distance_is_zero_and_without_strength_one() -> None:
    assert noise_distance(0.0, 1.0, None) == 0
    assert noise_distance([0.0, 1.0], [1.0, 1.0], 0.1) == pytest.approx([1.0, 0.00990], abs=1e-4)
    assert lowest_strength(0.01, None) == lowest_strength(0.01, 1e-6) == 0.01
