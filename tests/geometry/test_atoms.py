"""Planted parallelograms are found, and random ones are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from deltadex.geometry.atoms import Contrast, Parallelogram, parallelograms
from deltadex.geometry.chance import Refusal
from deltadex.vectors import unit_vectors

DIMENSION = 96


def steps(
    count: int, *, common: float, distractor: float = 0.0, seed: int = 0, each: int = 1
) -> tuple[NDArray[np.float64], Contrast]:
    """Return models in random directions; the later version of each is `common` further along a shared direction.

    Each version lies anywhere along two `distractor` directions; of both kinds there are `each`.
    """
    random = np.random.default_rng(seed)
    step, *distractors = random.normal(size=(3, DIMENSION)) / np.sqrt(DIMENSION)
    rows = np.array(
        [
            4 * own + late * common * step + distractor * random.normal(size=2) @ distractors
            for own in random.normal(size=(count, DIMENSION)) / np.sqrt(DIMENSION)
            for late in (0, 1)
            for _ in range(each)
        ]
    )
    rows += random.normal(size=rows.shape) / np.sqrt(DIMENSION)
    groups = tuple(f"model {number // (2 * each)}" for number in range(len(rows)))
    changed = tuple(bool(number // each % 2) for number in range(len(rows)))
    return rows, Contrast("version 1 → 2", tuple(range(len(rows))), groups, changed)


def measure(vectors: NDArray[np.float64], contrast: Contrast) -> Parallelogram:
    [found] = parallelograms(vectors, [contrast])
    assert isinstance(found, Parallelogram)
    return found


def test_a_step_that_all_models_share_is_found() -> None:
    found = measure(*steps(12, common=2))
    assert found.is_found
    assert (found.groups, found.models, found.agreeing_groups) == (12, 24, 12)
    assert found.alignment.value > found.alignment.chance.high
    assert "12 of 12 groups follow" in found.meaning


def test_a_perfect_parallelogram_is_aligned_wholly() -> None:
    corners = np.eye(20)[:10]
    vectors = np.concatenate([corners, corners + 0.5 * np.eye(20)[[19]]])
    contrast = Contrast("step", tuple(range(20)), tuple(map(str, [*range(10)] * 2)), (False,) * 10 + (True,) * 10)
    # Of unit vectors: a model's own direction becomes a little shorter.
    assert measure(vectors, contrast).alignment.value > 0.9


def test_a_difference_between_several_models_of_each_domain_is_found() -> None:
    found = measure(*steps(3, common=2, each=3))
    assert found.is_found
    assert (found.groups, found.models) == (3, 18)


@pytest.mark.parametrize("distractor", [0, 4])
@pytest.mark.parametrize(("count", "each"), [(8, 1), (5, 2)])
def test_without_a_common_step_one_is_found_as_rarely_as_the_level_says(
    count: int, each: int, distractor: float
) -> None:
    p_values = [
        measure(*steps(count, common=0, distractor=distractor, seed=seed, each=each)).alignment.p_value
        for seed in range(200)
    ]
    # Of 200 draws at a level of .05, 99.9 % have 1 to 21.
    assert 1 <= np.sum(np.array(p_values) <= 0.05) <= 21


def test_the_same_but_stronger_is_no_direction() -> None:
    random = np.random.default_rng(0)
    models = 1 + random.normal(size=(12, DIMENSION))
    vectors = np.concatenate([models, 3 * models]) + 0.1 * random.normal(size=(24, DIMENSION))
    contrast = Contrast("step", tuple(range(24)), tuple(map(str, [*range(12)] * 2)), (False,) * 12 + (True,) * 12)
    assert not measure(vectors, contrast).is_found


def test_the_order_of_rows_changes_nothing() -> None:
    vectors, contrast = steps(9, common=0.3, each=2)
    order = np.random.default_rng(0).permutation(len(vectors))
    place = np.argsort(order)
    moved = Contrast(
        contrast.name,
        tuple(int(place[row]) for row in contrast.rows)[::-1],
        contrast.groups[::-1],
        contrast.changed[::-1],
    )
    assert measure(vectors[order], moved) == measure(vectors, contrast)


def test_the_alignment_is_the_mean_cosine_with_the_sum_of_the_other_differences() -> None:
    vectors, contrast = steps(8, common=1)
    units = unit_vectors(vectors)
    differences = units[1::2] - units[::2]
    others = differences.sum(axis=0) - differences
    cosines = [
        each @ rest / np.linalg.norm(each) / np.linalg.norm(rest)
        for each, rest in zip(differences, others, strict=True)
    ]
    assert measure(vectors, contrast).alignment.value == pytest.approx(np.mean(cosines))


def test_too_few_models_are_refused_with_the_number_it_takes() -> None:
    vectors, contrast = steps(7, common=5)
    [refusal] = parallelograms(vectors, [contrast])
    assert refusal == Refusal("version 1 → 2", "groups with both sides", 7, 8)
    assert "It takes 8 groups with both sides; there are 7" in refusal.meaning
    assert measure(*steps(8, common=5)).is_found


def test_groups_without_both_kinds_say_nothing() -> None:
    vectors, contrast = steps(9, common=2)
    lonely = replace(contrast, changed=(False, False, *contrast.changed[2:]))
    assert measure(vectors, lonely).groups == 8
    [refusal] = parallelograms(vectors, [replace(contrast, changed=(True,) * 18)])
    assert isinstance(refusal, Refusal)
    assert (refusal.count, refusal.needed) == (0, 8)


def test_p_values_are_corrected_for_the_number_of_questions() -> None:
    vectors, contrast = steps(10, common=2)
    random = np.random.default_rng(0)
    shuffled = [replace(contrast, rows=tuple(random.permutation(20).tolist())) for _ in range(9)]
    refused = replace(contrast, changed=(True,) * 20)
    first, refusal, *_ = parallelograms(vectors, [contrast, refused, *shuffled])
    assert isinstance(refusal, Refusal)
    assert isinstance(first, Parallelogram)
    assert first.adjusted_p == pytest.approx(10 * first.alignment.p_value)
