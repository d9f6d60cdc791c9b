"""What noise does to a delta, beside noise that is really added."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.analysis.strength import NOISE_MARGIN, lowest_strength, noise_distance


@pytest.mark.parametrize("strength", [0.04, 0.1, 1.0])
def test_noise_moves_an_embedding_as_far_as_is_said(strength: float) -> None:
    generator, floor = np.random.default_rng(0), 0.02
    delta = generator.standard_normal(4096)
    delta *= strength / np.linalg.norm(delta)
    one, other = (delta + noise * floor / np.linalg.norm(noise) for noise in generator.standard_normal((2, 4096)))
    distance = 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert distance == pytest.approx(float(noise_distance(strength, strength, floor)), abs=0.02)


def test_at_the_lowest_strength_noise_alone_makes_near_duplicates_of_one_model() -> None:
    strength = lowest_strength(0.01, 0.02)
    assert strength == NOISE_MARGIN * 0.02
    assert 0.95 < 1 - noise_distance(strength, strength, 0.02) < 0.97


def test_without_noise_nothing_moves_and_without_strength_all_is_noise() -> None:
    assert noise_distance(0.0, 1.0, None) == 0
    assert noise_distance([0.0, 1.0], [1.0, 1.0], 0.1) == pytest.approx(
        [
            1.0,
            0.00990,
        ],
        abs=1e-4,
    )
    assert lowest_strength(0.01, None) == lowest_strength(0.01, 1e-6) == 0.01
