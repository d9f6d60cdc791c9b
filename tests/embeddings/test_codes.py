"""Codes are stable, and accurate enough for searches."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from deltadex.embeddings import codes

DIMENSION = 2048


def test_codes_are_what_they_always_were() -> None:
    """Codes of one database share one matrix; a change needs a migration of all codes."""
    signs = codes.codes_of(np.eye(600, dtype=np.float32)) > 0
    digest = hashlib.sha256(np.packbits(signs).tobytes()).hexdigest()
    assert digest == "bce8cc1ac5a160f667796e82aa222d9fc45a472a3e1b62f306b8517235e384ae"


def test_a_short_vector_is_its_own_code() -> None:
    vectors = np.random.default_rng(0).standard_normal((5, codes.CODE_SIZE)).astype(np.float32)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(codes.codes_of(vectors), expected, rtol=1e-6)
    assert codes.spread(codes.CODE_SIZE) == 0 < codes.spread(codes.CODE_SIZE + 1)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_a_code_has_length_one_whatever_the_vector(factor: float) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, DIMENSION)).astype(np.float32) * np.float32(factor)
    np.testing.assert_allclose(np.linalg.norm(codes.codes_of(vectors), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("dimensions", [DIMENSION, 3], ids=["spread out", "outliers only"])
def test_estimates_err_as_the_law_says(similarity: float, dimensions: int) -> None:
    """Includes vectors with a few dominant dimensions, as in hidden states."""
    random = np.random.default_rng(0)
    one, other = np.zeros((2, 2000, DIMENSION), dtype=np.float32)
    for row in range(2000):
        where = random.choice(DIMENSION, dimensions, replace=False)
        basis, _ = np.linalg.qr(random.standard_normal((dimensions, 2)))
        one[row, where] = basis[:, 0]
        other[row, where] = similarity * basis[:, 0] + math.sqrt(1 - similarity**2) * basis[:, 1]
    estimates = np.sum(codes.codes_of(one) * codes.codes_of(other), axis=1, dtype=np.float64)
    off = (np.arctanh(estimates) - math.atanh(similarity)) * math.sqrt(codes.CODE_SIZE)
    assert off.std() < 1.05
    assert off.min() > -codes.SIGMAS


def test_half_precision_errs_less_than_is_allowed_for() -> None:
    random = np.random.default_rng(0)
    units = codes.codes_of(random.standard_normal((300, codes.CODE_SIZE)) ** 3)
    halves = units.astype(np.float16).astype(np.float64)
    assert np.abs(halves @ halves.T - units.astype(np.float64) @ units.T).max() < codes.ROUNDING
