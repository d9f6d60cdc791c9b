"""Shared value types."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deltadex.engine.probes import PAPER_PROBES, PUBLISHED
from deltadex.types import DEMO_REGISTERED_TAG, Embedding, ModelVersionRef, Recipe, RegisteredVersion

RECIPE = Recipe(PUBLISHED, base_digest="b", dimension=4)


def embedding(deltas: np.ndarray, base_norm: float = 2.0) -> Embedding:
    return Embedding(RECIPE, deltas.astype(np.float32), base_norm, "w")


CREATED = datetime(2026, 11, 29, 12, tzinfo=UTC)


def registered(stated: str) -> RegisteredVersion:
    ref = ModelVersionRef("acme", "support", 1, int(CREATED.timestamp() * 1000))
    return RegisteredVersion(ref, source="runs:/abc/support", tags={DEMO_REGISTERED_TAG: stated})


def test_a_version_was_registered_when_the_demos_tag_says_so() -> None:
    assert registered("2026-10-01T08:30:00+00:00").registered_at == datetime(2026, 10, 1, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "stated",
    [
        "",
        "yesterday",
        "2026-10-01",
        "2026-02-30T00:00:00+00:00",
        "1816-01-01T00:00:00+00:00",
        "2026-11-30T00:00:00+00:00",
        "2026-10-01T08:30:00+00:00\n",
        "2026-10-01T08:30:00+00:00" + " " * 10**6,
    ],
)
def test_a_malformed_or_impossible_time_leaves_mlflows(stated: str) -> None:
    assert registered(stated).demo_registered_at is None
    assert registered(stated).registered_at == CREATED


@given(st.text(max_size=60))
def test_no_text_of_the_tag_is_an_error_or_later_than_mlflows_time(stated: str) -> None:
    assert registered(stated).registered_at <= CREATED


def test_the_demos_tag_is_not_among_what_people_set() -> None:
    assert registered("2026-10-01T08:30:00+00:00").own_tags == {}


def test_any_field_of_a_recipe_makes_another_recipe() -> None:
    others = [
        replace(RECIPE, base_digest="c"),
        replace(RECIPE, dimension=5),
        replace(RECIPE, method=replace(PUBLISHED, dtype="bfloat16")),
    ]
    assert len({RECIPE.digest, *(other.digest for other in others)}) == 4


def test_the_papers_probes_are_five_and_stay_as_they_are() -> None:
    assert len(PAPER_PROBES.probes) == 5
    assert PAPER_PROBES.digest.startswith("aa4354d98339")


def test_strength_is_the_norm_in_units_of_the_base() -> None:
    made = embedding(np.tile([3.0, 4.0, 0, 0], (5, 1)), base_norm=10)
    assert made.norm == pytest.approx(5)
    assert made.strength == pytest.approx(0.5)
    assert made.probe_agreement == pytest.approx(1)


def test_a_finetune_that_changes_nothing_has_no_strength_and_no_agreement() -> None:
    made = embedding(np.zeros((5, 4)))
    assert (made.norm, made.strength, made.probe_agreement) == (0, 0, 0)


@given(arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
def test_agreement_is_a_cosine(deltas: np.ndarray) -> None:
    assert -1.001 <= embedding(deltas).probe_agreement <= 1.001
