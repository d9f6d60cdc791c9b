from __future__ import annotations

import numpy as np
import pytest

from benchmarks.nuisance import STEPS, Readings, whitened, without_common_direction, without_settings, worth
from deltadex.vectors import unit_vectors

DOMAINS = ["sql", "legal", "cpp"]


@pytest.fixture(scope="module")
def readings() -> Readings:
    """Three domains of eight models each; what all have in common is larger, and grows with the learning rate."""
    random = np.random.default_rng(0)
    rates = 10 ** random.uniform(-4, -3, 24)
    domain = np.eye(16)[np.arange(24) % 3]
    layers = random.normal(0, 0.1, (24, 5, 4, 2, 16))
    layers[:, :, -1] += (domain + np.outer(2 + np.log10(rates) + 3.5, np.eye(16)[5]))[:, None, None]
    return Readings(
        probe_deltas=layers[:, :, -1, 0],
        layers=layers,
        labels=[DOMAINS[number % 3] for number in range(24)],
        settings=[{"learning_rate": float(rate)} for rate in rates],
        comparable=~np.eye(24, dtype=bool),
    )


def test_removing_settings_is_worth_something_where_they_matter(readings: Readings) -> None:
    found = worth(readings)
    assert list(found) == [step.name for step in STEPS]
    assert found["as published"].gain == 0
    settings, centred = found["centred − learning rate"], found["centred"]
    assert settings.score.silhouette > centred.score.silhouette > found["as published"].score.silhouette
    assert settings.gain > 2 * settings.error


def test_a_model_is_never_compared_by_what_was_learned_from_itself(readings: Readings) -> None:
    """Row i comes from the fit without model i, so it is not column i."""
    similarity = without_settings(readings)
    assert np.abs(similarity - similarity.T).max() > 1e-6
    np.testing.assert_allclose(np.diag(similarity), 1)


def test_the_common_direction_is_that_of_the_others(readings: Readings) -> None:
    others = np.arange(1, 24)
    common = unit_vectors(unit_vectors(readings.vectors[others]).mean(0, keepdims=True))
    np.testing.assert_allclose(without_common_direction(readings.vectors, others) @ common.T, 0, atol=1e-12)


def test_whitened_models_vary_alike_in_all_directions() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 3)) * [1, 2, 5]
    covariance = np.cov(whitened(rows, np.arange(4000)).T)
    np.testing.assert_allclose(covariance, np.eye(3), atol=0.05)
