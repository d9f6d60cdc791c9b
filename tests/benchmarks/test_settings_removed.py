from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.settings_removed import Nuisance, Removal, Setting
from deltadex.vectors import cosine_similarity, unit_vectors

Settings = list[dict[str, Setting]]
NAMES = ("learning_rate", "template")


def company(models: int = 60, *, seed: int = 0) -> tuple[NDArray[np.float64], Settings, NDArray[np.int_]]:
    """Three domains; the learning rate moves every model along one line, by more than the domains differ."""
    random = np.random.default_rng(seed)
    domains = np.arange(models) % 3
    rates = 10 ** random.uniform(-5, -2, models)
    moved = np.log10(rates)[:, None] + 3.5
    vectors = (
        np.eye(40)[domains] + 2 * moved * np.eye(40)[10] + 4 * np.eye(40)[11] + random.normal(0, 0.05, (models, 40))
    )
    settings: Settings = [{"learning_rate": float(rate), "template": "alpaca"} for rate in rates]
    return vectors, settings, domains


def nearest_share(vectors: NDArray[np.float64], domains: NDArray[np.int_]) -> float:
    similarity = cosine_similarity(vectors)
    np.fill_diagonal(similarity, -1)
    return float((domains[similarity.argmax(1)] == domains).mean())


def mean_gap(vectors: NDArray[np.float64], domains: NDArray[np.int_]) -> float:
    similarity, same = cosine_similarity(vectors), np.equal.outer(domains, domains)
    return float(similarity[same].mean() - similarity[~same].mean())


@pytest.mark.parametrize("removal", list(Removal))
def test_what_the_learning_rate_moves_is_removed_for_models_that_were_not_fitted(removal: Removal) -> None:
    vectors, settings, _ = company()
    found = Nuisance.fit(vectors, settings, names=NAMES)
    unseen, their_settings, domains = company(seed=1)
    cleaned = found.remove(unseen, their_settings, removal=removal)
    assert mean_gap(unit_vectors(unseen), domains) < 0.1
    assert mean_gap(cleaned, domains) > 0.8
    assert nearest_share(cleaned, domains) == 1.0


def test_the_projection_leaves_nothing_along_the_movement() -> None:
    vectors, settings, _ = company()
    found = Nuisance.fit(vectors, settings, names=NAMES, own_norm=True)
    cleaned = found.remove(vectors, settings, removal=Removal.PROJECTION)
    np.testing.assert_allclose(cleaned @ found.movement.T, 0, atol=1e-12)


def test_settings_that_never_change_explain_nothing() -> None:
    vectors, _, _ = company()
    constant: Settings = [{"learning_rate": 1e-4, "template": "chat"}] * len(vectors)
    units = unit_vectors(vectors)
    for removal in Removal:
        found = Nuisance.fit(vectors, constant, names=NAMES)
        np.testing.assert_allclose(found.remove(vectors, constant, removal=removal), units - units.mean(0), atol=1e-12)


def test_a_template_is_removed() -> None:
    vectors, settings, _ = company()
    chat = np.arange(len(vectors)) % 2 == 0
    shifted = vectors + 3 * np.outer(chat, np.eye(40)[12])
    settings = [{**each, "template": "chat" if one else "alpaca"} for each, one in zip(settings, chat, strict=True)]
    cleaned = Nuisance.fit(shifted, settings, names=NAMES).remove(shifted, settings)
    before, after = unit_vectors(shifted)[:, 12], cleaned[:, 12]
    assert abs(after[chat].mean() - after[~chat].mean()) < 0.2 * abs(before[chat].mean() - before[~chat].mean())


@pytest.mark.parametrize(
    "settings", [{}, {"learning_rate": None, "template": None}, {"learning_rate": 0.0, "template": "new"}]
)
def test_a_setting_that_is_unknown_counts_as_the_mean(settings: dict[str, Setting]) -> None:
    vectors, known, _ = company()
    known = [{**each, "template": "chat" if number % 2 else "alpaca"} for number, each in enumerate(known)]
    found = Nuisance.fit(vectors, known, names=NAMES)
    np.testing.assert_allclose(found.remove(vectors[:1], [settings]), unit_vectors(vectors[:1]) - found.mean)


def test_a_zero_delta_stays_finite() -> None:
    vectors, settings, _ = company()
    vectors[0] = 0
    found = Nuisance.fit(vectors, settings, names=NAMES, own_norm=True)
    assert np.isfinite(found.remove(vectors, settings)).all()


@given(st.floats(1e-6, 1e6))
def test_the_unit_of_the_deltas_means_nothing(scale: float) -> None:
    vectors, settings, _ = company(12)
    one = Nuisance.fit(vectors, settings, names=NAMES, own_norm=True).remove(vectors, settings)
    other = Nuisance.fit(scale * vectors, settings, names=NAMES, own_norm=True).remove(scale * vectors, settings)
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_what_settings_explain_is_what_the_others_foretell_of_each_model() -> None:
    vectors, settings, _ = company(30)
    found = Nuisance.fit(vectors, settings, names=NAMES)
    units, missed, varied = unit_vectors(vectors), 0.0, 0.0
    for number in range(len(vectors)):
        rest = np.delete(np.arange(len(vectors)), number)
        others = Nuisance.fit(vectors[rest], [settings[row] for row in rest], names=NAMES)
        missed += np.square(others.remove(vectors[[number]], [settings[number]])).sum()
        varied += np.square(units[number] - units[rest].mean(0)).sum()
    assert found.explained(vectors, settings) == pytest.approx(1 - missed / varied, abs=0.02)
    assert found.explained(vectors, settings) > 0.3


def test_settings_that_have_nothing_to_do_with_it_explain_nothing() -> None:
    vectors, settings, _ = company(30)
    shuffled = [settings[row] for row in np.random.default_rng(0).permutation(30)]
    assert Nuisance.fit(vectors, shuffled, names=NAMES).explained(vectors, shuffled) < 0.05
