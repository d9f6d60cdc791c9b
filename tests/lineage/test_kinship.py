"""Origins of tiny models that were really trained, told by their weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.checkpoints.sketch import Sketch
from deltadex.demo import training
from deltadex.lineage.kinship import First, Origin, beyond, independence, kinship
from tests.lineage.families import Family

ADAPTERS = ("a", "c", "d", "reseed of a")


def told(sketches: Mapping[str, Sketch], one: str, other: str) -> tuple[Origin, First] | None:
    found = kinship(sketches[one], sketches[other], comparisons=len(sketches))
    return found and (found.origin, found.first)


@pytest.mark.parametrize(("one", "other"), list(combinations(ADAPTERS, 2)))
def test_independent_adapters_are_no_kin_even_on_one_domain(
    sketches: Mapping[str, Sketch], one: str, other: str
) -> None:
    assert told(sketches, one, other) is None


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("a", "a trained on"), ("a", "a trained on elsewhere"), ("a trained on", "a trained on twice"),
        ("full", "full trained on"), ("full", "full trained on elsewhere"),
    ],
)  # fmt: skip
def test_a_parent_is_known_and_comes_first(sketches: Mapping[str, Sketch], parent: str, child: str) -> None:
    assert told(sketches, parent, child) == (Origin.TRAINED_ON, First.ONE)
    assert told(sketches, child, parent) == (Origin.TRAINED_ON, First.OTHER)


@pytest.mark.parametrize("other", ["seed of a, same domain", "seed of a, other domain"])
def test_a_shared_seed_is_a_shared_origin_and_no_parent(sketches: Mapping[str, Sketch], other: str) -> None:
    assert told(sketches, "a", other) == (Origin.SHARED, First.UNKNOWN)


@pytest.mark.parametrize("other", ["full reseed", "other full"])
def test_independent_trainings_of_all_weights_are_no_kin(sketches: Mapping[str, Sketch], other: str) -> None:
    assert told(sketches, "full", other) is None


def test_a_rounded_copy_comes_after_its_original(sketches: Mapping[str, Sketch]) -> None:
    assert told(sketches, "full, rounded", "full") == (Origin.SAME, First.OTHER)


def test_twins_of_a_base_have_no_kin_among_their_finetunes(
    family: Family, sketches: Mapping[str, Sketch], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with training.quiet():
        twin = Family.found(tmp_path_factory.mktemp("twin"), seed=7)
        # The same data, and the same seed of the order and, for the adapter, of the beginning.
        full, adapter = twin.full("full", domain=1, seed=1), twin.adapter("a", domain=1, seed=11)
    assert twin.sketch(full).layout == sketches["full"].layout
    for own in (twin.sketch(full), twin.sketch(adapter)):
        assert [name for name, one in sketches.items() if kinship(own, one) is not None] == []


def test_signs_of_independent_components_give_uniform_or_larger_p_values() -> None:
    random = np.random.default_rng(0)
    p_values = np.array([independence(random.standard_normal(40)) for _ in range(2000)])
    for level in (0.2, 0.05, 0.01):
        assert (p_values <= level).mean() <= level


@given(st.lists(st.floats(-1e3, 1e3), max_size=60))
def test_a_p_value_is_one(products: list[float]) -> None:
    assert 0 < independence(np.array(products)) <= 1


def test_the_p_value_of_equal_components_is_that_of_all_signs_falling_alike() -> None:
    assert independence(np.ones(20)) == pytest.approx(2.0**-20, rel=0.01)


def test_a_correlation_is_compared_with_what_independent_trainings_reach() -> None:
    assert beyond(0.5, 4000) == pytest.approx(0.5)
    assert beyond(0.6, 4000) < 1e-10
    assert beyond(0.4, 4000) > 0.99
    assert beyond(float("nan"), 4000) == 1
