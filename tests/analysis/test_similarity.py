"""Cosine similarity."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deltadex.analysis.similarity import cosine_similarity
from tests.analysis.vectors import vectors


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
