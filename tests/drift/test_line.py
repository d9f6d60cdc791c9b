"""Drift along a line of versions: direction and strength, noise, change points and breaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.drift.line import Break, Change, PlacedVersion, Space, follow, unresolved

CLEAN = {1: Space("base"), 2: Space("base"), 3: Space("other base")}


def at(degrees: float, *, strength: float = 1.0, recipe: int = 1) -> dict[int, PlacedVersion]:
    radians = np.radians(degrees)
    direction = np.array([np.cos(radians), np.sin(radians)], dtype=np.float32)
    probes = np.stack([direction, np.array([1, 0], dtype=np.float32)])
    return {recipe: PlacedVersion(strength * direction, strength, probes)}


def test_direction_and_strength_are_told_apart_and_so_are_the_probes() -> None:
    stronger, turned = follow([at(0), at(0, strength=3), at(90, strength=3)], CLEAN)
    assert stronger.previous is not None
    assert turned.previous is not None
    assert (stronger.previous.distance, stronger.previous.strength_ratio) == (pytest.approx(0), 3)
    assert (turned.previous.distance, turned.previous.strength_ratio) == (pytest.approx(1), 1)
    assert turned.previous.probe_distances == pytest.approx((1, 0))
    assert [step.previous.changes_strength(2) for step in (stronger, turned) if step.previous] == [True, False]


def test_each_version_is_measured_from_the_first_and_from_the_alias() -> None:
    steps = follow([at(0), at(60), at(90)], {1: Space("base", limit=0.9)}, alias=1)
    assert [step.first.distance for step in steps if step.first] == pytest.approx([0.5, 1])
    assert [step.alias.distance for step in steps if step.alias] == pytest.approx([0, 1 - np.cos(np.pi / 6)])


def test_a_jump_is_flagged_once_and_the_way_back_is_a_return() -> None:
    steps = follow([at(0), at(5), at(90), at(95), at(4)], CLEAN)
    assert [step.change for step in steps] == [None, Change.JUMP, None, Change.RETURN]
    assert [step.reference for step in steps] == [None, 0, None, 2]
    assert [step.back_to for step in steps] == [None, None, None, 0]
    assert [step.is_drift for step in steps] == [False, True, False, False]


@pytest.mark.parametrize(
    ("in_use", "left"), [((), []), ((0,), []), ((2,), [1]), ((3,), [1]), ((4,), []), ((5,), []), ((3, 5), [1])]
)
def test_a_return_resolves_a_drift_unless_an_alias_points_at_where_it_led(
    in_use: tuple[int, ...], left: list[int]
) -> None:
    steps = follow([at(0), at(5), at(90), at(95), at(0), at(1)], CLEAN)
    assert unresolved(steps, [place in in_use for place in range(6)]) == left


def test_a_version_near_a_step_of_a_creep_is_not_back() -> None:
    vectors = [[1, 0, 0], [0.914, 0.407, 0], [0.866, 0.5, 0], [0.833, 0.354, 0.426]]
    line = [{1: PlacedVersion(np.array(vector, dtype=np.float32), 1.0)} for vector in vectors]
    *_, creep, last = follow(line, {1: Space("base", limit=0.1)})
    assert creep.change is Change.CREEP
    assert last.change is not Change.RETURN, "it is near a step of the creep, but far from where that began"


def test_a_return_resolves_only_the_drifts_since_the_version_that_it_is_back_at() -> None:
    steps = follow([at(0), at(90), at(180), at(90)], CLEAN)
    assert [step.change for step in steps] == [Change.JUMP, Change.JUMP, Change.RETURN]
    assert unresolved(steps, [False] * 4) == [0]
    steps = follow([at(0), at(90), at(180), at(0), at(180)], CLEAN)
    assert [step.change for step in steps][2:] == [Change.RETURN, Change.JUMP]
    assert unresolved(steps, [False] * 5) == [3], "it has left again"


def test_a_model_that_creeps_away_is_flagged_where_it_has_gone_far() -> None:
    steps = follow([at(degrees) for degrees in range(0, 151, 25)], CLEAN)
    assert [step.change for step in steps] == [None, None, Change.CREEP, None, None, Change.CREEP]
    assert steps[2].measure == pytest.approx(1 - np.cos(np.radians(75)))


@given(st.lists(st.floats(-29, 29), min_size=2, max_size=30))
def test_a_model_that_stays_near_where_it_began_is_never_flagged(degrees: list[float]) -> None:
    # Any two of these are less than 60 degrees, a distance of .5, apart.
    assert not any(step.change for step in follow([at(each) for each in degrees], CLEAN))


def test_what_noise_or_another_seed_may_do_is_no_drift() -> None:
    line = [at(0, strength=0.02), at(80, strength=0.02)]
    [clear] = follow(line, {1: Space("base", noise_floor=0.001)})
    [noisy] = follow(line, {1: Space("base", noise_floor=0.2)})
    [reseeded] = follow(line, {1: Space("base", reseed_distance=0.9)})
    assert [step.change for step in (clear, noisy, reseeded)] == [Change.JUMP, None, None]
    assert reseeded.previous is not None
    assert (reseeded.previous.noise, reseeded.previous.is_beyond_noise) == (0.9, False)


@pytest.mark.parametrize(("recipe", "why"), [(2, Break.RECIPE), (3, Break.BASE)])
def test_another_base_or_recipe_breaks_the_line_and_is_no_drift(recipe: int, why: Break) -> None:
    steps = follow([at(0), at(90, recipe=recipe), at(95, recipe=recipe)], CLEAN, alias=0)
    assert [step.broken for step in steps] == [why, None]
    assert (steps[0].previous, steps[0].first, steps[0].alias, steps[0].change) == (None, None, None, None)
    assert steps[1].first is not None
    assert steps[1].first.distance < 0.01
    assert steps[1].change is None


def test_versions_are_compared_under_the_latest_recipe_that_they_share() -> None:
    both = {**at(0), **at(90, recipe=2)}
    first, second = follow([at(0), both, at(100, recipe=2)], CLEAN)
    assert [step.previous.recipe_id for step in (first, second) if step.previous] == [1, 2]
    assert (second.broken, second.first, second.change) == (None, None, None)


def test_a_delta_of_zero_has_no_strength_ratio() -> None:
    zero = {1: PlacedVersion(np.zeros(2, np.float32), 0.0)}
    [step] = follow([zero, at(0)], CLEAN)
    assert step.previous is not None
    assert (step.previous.strength_ratio, step.previous.probe_distances) == (None, None)
    assert not step.previous.changes_strength(2)


def test_one_version_has_no_steps() -> None:
    assert follow([at(0)], CLEAN) == []
    assert follow([], CLEAN) == []
