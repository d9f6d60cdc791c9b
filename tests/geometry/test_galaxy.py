"""Planted directions and clusters are detected, and clouds without any are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deltadex.geometry.chance import NumberByChance, Refusal
from deltadex.geometry.galaxy import CLUSTERED_NATS, FEWEST_FOR_ENTROPY, FEWEST_MODELS, Galaxy, _isotropic, galaxy
from tests.synthetic import families

Vectors = NDArray[np.float64]


def spanning(directions: int, count: int, *, dimension: int = 96, seed: int = 0) -> Vectors:
    """Return random models in a subspace, with a little noise."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(dimension, directions))).Q.T
    noise = random.normal(size=(count, dimension)) / np.sqrt(dimension)
    return random.normal(size=(count, directions)) @ axes + 0.5 * noise


def isotropic(count: int, *, dimension: int = 96, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, dimension))


def measure(vectors: Vectors) -> Galaxy:
    found = galaxy(vectors)
    assert isinstance(found, Galaxy)
    return found


def entropy(found: Galaxy) -> NumberByChance:
    assert isinstance(found.entropy, NumberByChance)
    return found.entropy


def test_planted_directions_are_counted() -> None:
    found = measure(spanning(7, 150))
    assert found.directions == 7
    assert 6 < found.effective.value < 9
    assert found.effective.is_found
    assert found.slope.is_found
    assert found.explained > 0.9
    assert found.meaning.startswith("Your 150 models span about 7 independent directions, which explain 9")


def test_a_dozen_models_are_enough_for_two_directions() -> None:
    assert [measure(spanning(2, FEWEST_MODELS, seed=seed)).directions for seed in range(10)].count(2) >= 9


def test_random_models_span_no_direction_more_often_than_the_level_says() -> None:
    found = [measure(isotropic(24, seed=seed)) for seed in range(100)]
    # The spectrum is tested on both sides, the others on one: of 100 draws at .05, 99.9 % have at most 13.
    assert sum(one.directions > 0 for one in found) <= 9
    assert sum(one.effective.is_found for one in found) <= 13
    assert sum(one.slope.is_found for one in found) <= 13
    assert "no direction in common" in next(one for one in found if one.directions == 0).meaning


def test_planted_clusters_are_seen() -> None:
    found = measure(families([8] * 5, spread=0.7, dimension=96).astype(float))
    assert found.directions == 4
    assert entropy(found).value - entropy(found).chance.median > 4 * CLUSTERED_NATS
    assert "the models form clusters" in found.meaning


@pytest.mark.parametrize("count", [30, 90])
@pytest.mark.parametrize("shape", ["isotropic", "power law", "few directions", "around a mean", "of many strengths"])
def test_a_cloud_of_any_extent_is_not_taken_for_clusters(shape: str, count: int) -> None:
    clouds = {
        "isotropic": isotropic(count),
        "power law": isotropic(count) * np.arange(1, 97) ** -0.7,
        "few directions": spanning(3, count),
        "around a mean": 2 * np.eye(96)[1] + isotropic(count) * np.arange(1, 97) ** -0.7,
        "of many strengths": spanning(6, count) * np.exp(np.random.default_rng(1).normal(size=(count, 1))),
    }
    assert "one cloud" in (found := measure(clouds[shape])).meaning or found.directions == 0


def test_the_null_is_that_of_the_same_number_of_models_and_dimensions() -> None:
    wide, narrow = measure(isotropic(20, dimension=4096)), measure(isotropic(20, dimension=32))
    assert narrow.slope.chance.median < wide.slope.chance.median < 0
    assert narrow.effective.chance.median < wide.effective.chance.median < 19
    assert len(wide.spectrum) == 19
    assert [len(quantile) for quantile in wide.chance] == [19, 19, 19]
    assert len(measure(isotropic(40, dimension=8)).spectrum) == 8


def test_the_null_is_drawn_without_its_dimensions_and_is_the_same() -> None:
    """The triangular rows have the scalar products of normal ones: compare the largest eigenvalue of many draws."""
    random = np.random.default_rng(0)

    def largest(rows: Vectors) -> float:
        return float(np.linalg.eigvalsh(rows @ rows.T)[-1])

    short = [largest(_isotropic(6, 50, random)) for _ in range(2000)]
    long = [largest(random.normal(size=(6, 50))) for _ in range(2000)]
    assert np.quantile(short, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(long, [0.1, 0.5, 0.9]), rel=0.02)


def test_the_order_of_rows_changes_nothing() -> None:
    vectors = families([10, 10, 12], spread=1.0).astype(float)
    found, moved = measure(vectors), measure(vectors[np.random.default_rng(0).permutation(32)])
    assert (found.slope, found.effective, found.entropy) == (moved.slope, moved.effective, moved.entropy)
    assert found.spectrum == moved.spectrum


def test_too_few_models_are_refused_with_the_number_it_takes() -> None:
    refusal = galaxy(spanning(2, FEWEST_MODELS - 1))
    assert isinstance(refusal, Refusal)
    assert (refusal.count, refusal.needed) == (FEWEST_MODELS - 1, FEWEST_MODELS)
    found = measure(spanning(2, FEWEST_MODELS))
    assert found.entropy == Refusal("Clusters within these directions", "models", FEWEST_MODELS, FEWEST_FOR_ENTROPY)
    assert "It takes 30 models; there are 12." in found.meaning


def test_models_that_are_all_the_same_are_one() -> None:
    refusal = galaxy(np.ones((50, 8)) * np.arange(1, 51)[:, None])
    assert isinstance(refusal, Refusal)
    assert refusal.count == 1
