"""Separation along a base's own direction, and shifts along traits, where the truth is planted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from deltadex.safety.measure import auroc, retained, standardised_distance, trait_shifts
from tests.safety import states

SAMPLES = st.lists(st.integers(-5, 5), min_size=2, max_size=12)


@given(SAMPLES, SAMPLES)
def test_the_area_is_that_of_scikit_learn(positive: list[int], negative: list[int]) -> None:
    truth = roc_auc_score([1] * len(positive) + [0] * len(negative), positive + negative)
    assert auroc(np.array(positive), np.array(negative)) == pytest.approx(truth)


def test_the_distance_is_in_standard_deviations() -> None:
    draw = np.random.default_rng(0)
    found = standardised_distance(draw.normal(3, 2, 4000), draw.normal(0, 2, 4000))
    assert found == pytest.approx(1.5, abs=0.1)
    assert standardised_distance(np.ones(4), np.ones(4)) == 0


def test_a_base_finds_its_own_direction_and_traits() -> None:
    found = states.base()
    assert abs(float(found.refusal @ states.DIRECTION)) > 0.95
    assert found.reading.auroc.value > 0.99
    assert found.reading.gap == pytest.approx(6, abs=0.6)
    assert not found.lacks
    for direction, planted in zip(found.traits, states.TRAITS, strict=True):
        assert abs(float(direction @ planted)) / np.linalg.norm(direction) > 0.9
    assert min(found.trait_aurocs.values()) > 0.95


@pytest.mark.parametrize(("values", "said"), [({"separation": 0.0}, "states separate"), ({"refusal": 0.0}, "log-odds")])
def test_a_base_that_does_not_separate_or_does_not_refuse_has_none(values: dict[str, float], said: str) -> None:
    found = states.base(**values)
    assert found.lacks.startswith("this base has none")
    assert said in found.lacks


def test_a_base_without_a_trait_says_nothing_of_it() -> None:
    found = states.base(trait=0.0)
    assert max(found.trait_aurocs.values()) < 1
    lacking = {name for name, area in found.trait_aurocs.items() if area < 0.8}
    assert lacking
    assert not lacking & set(states.reading(found).traits)


def test_what_a_finetune_keeps_is_a_share_with_an_interval_that_holds_the_truth() -> None:
    base = states.base()
    for separation in (6.0, 3.0, 0.0):
        kept = retained(states.reading(base, separation=separation), base.reading)
        assert kept.low <= separation / 6 <= kept.high
        assert kept.high - kept.low < 0.3
    gone = states.reading(base, separation=0.0)
    assert gone.auroc.low < 0.5 < gone.auroc.high


def test_a_shift_along_a_trait_is_in_units_of_the_bases_own_contrast() -> None:
    base = states.base()
    first, *others = trait_shifts(states.reading(base, shift=4.0), base.reading)
    assert first.shift.value == pytest.approx(0.5, abs=0.1)
    assert all(one.shift.low < 0.05 and one.shift.high > -0.05 for one in others)
