"""Calibrated thresholds: correct for separable families, and the setting otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltadex.findings.calibration import UNKNOWN, Calibration, Sample, Steps, Threshold, calibrate, default_calibration
from deltadex.setting_groups import ThresholdSettings
from tests.synthetic import families

DEFAULT = Calibration(Threshold(0.95), Threshold(0.8), Threshold(0.8), Threshold(0.5))
#: Notes of thresholds that are not calibrated begin like this.
SETTING = "the setting"
FIVE_TRAININGS: list[str | None] = [training for training in "abcde" for _ in range(3)]
NOTHING = Sample(np.empty((0, 4), np.float32), [], [])
NO_STEPS = Steps(np.empty(0, np.float32), 0)


def sample(rows: np.ndarray, *, trainings: list[str | None] | None = None) -> Sample:
    names = [f"model-{number}" for number in range(len(rows))]
    return Sample(rows, names, trainings or [None] * len(rows))


def same_task(rows: np.ndarray) -> Threshold:
    return calibrate(sample(rows), NOTHING, NO_STEPS, default=DEFAULT).same_task


def test_the_same_task_begins_where_families_do() -> None:
    rows = families([5, 5, 5, 5], dimension=32, spread=0.5)
    found = same_task(rows)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    family = np.repeat(np.arange(4), 5)
    above = np.triu(units @ units.T >= found.value - 1e-3, k=1)
    assert not found.note.startswith(SETTING)
    assert (family[:, None] == family)[above].mean() >= 0.95
    assert above.sum() >= 36  # of 40
    assert "4 clusters" in found.note


@pytest.mark.parametrize("sizes", [[7, 7], [20], [1] * 20])
def test_without_several_families_the_setting_stays(sizes: list[int]) -> None:
    found = same_task(families(sizes, dimension=64, spread=0.5))
    assert found.value == 0.8
    assert found.note.startswith(f"{SETTING}: ")


def test_without_a_setting_a_task_is_not_claimed_before_there_is_evidence() -> None:
    default = default_calibration(ThresholdSettings())
    few = calibrate(sample(families([2, 2])), NOTHING, NO_STEPS, default=default)
    assert (few.same_task.value, few.same_task.is_known) == (UNKNOWN, False)
    assert few.same_task.note == "not known yet: 4 models, 15 are needed to calibrate"
    assert few.at(0.7).same_task == few.same_task, "a preview knows no more"
    rows = families([5, 5, 5, 5], dimension=32, spread=0.5)
    assert calibrate(sample(rows), NOTHING, NO_STEPS, default=default).same_task == same_task(rows)
    reseeds = sample(families([3] * 5, dimension=64, spread=0.15), trainings=FIVE_TRAININGS)
    found = calibrate(NOTHING, reseeds, NO_STEPS, default=default)
    assert found.near_similarity.is_known, "near duplicates need no task"
    assert not few.near_similarity.is_known


def test_versions_of_one_model_are_no_evidence_about_others() -> None:
    rows = families([5, 5, 5, 5], dimension=32)
    few = Sample(rows, [f"model-{number // 2}" for number in range(20)], [None] * 20)
    assert "10 models, 15 are needed" in calibrate(few, NOTHING, NO_STEPS, default=DEFAULT).same_task.note


def test_near_is_what_nine_of_ten_reseeds_reach() -> None:
    rows = families([3] * 6, dimension=64, spread=0.15)
    rows[0] *= 0.6
    found = calibrate(NOTHING, sample(rows, trainings=[*FIVE_TRAININGS, None, None, None]), NO_STEPS, default=DEFAULT)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = units @ units.T
    pairs = [similarity[row, other] for row in range(15) for other in range(row) if row // 3 == other // 3]
    assert not found.near_similarity.note.startswith(SETTING)
    assert found.near_similarity.pairs == 15
    assert found.near_similarity.value == pytest.approx(np.quantile(pairs, 0.1), abs=1e-3)
    assert found.near_norm_ratio.value < 0.8
    assert found.reseed_distance == pytest.approx(1 - np.median(pairs), abs=1e-6)


def test_a_few_reseeds_are_not_enough() -> None:
    found = calibrate(NOTHING, sample(families([4]), trainings=["a"] * 4), NO_STEPS, default=DEFAULT)
    assert found.near_similarity.value == 0.95
    assert found.near_similarity.note.startswith(SETTING)
    assert "6 pairs of reseeds of 1 trainings are known, 10 of 5 are needed" in found.near_similarity.note
    assert found.reseed_distance is None
    many = calibrate(NOTHING, sample(families([9]), trainings=["a"] * 9), NO_STEPS, default=DEFAULT)
    assert "36 pairs of reseeds of 1 trainings" in many.near_similarity.note, "one training is like no other"


def test_reseeds_that_are_no_more_alike_than_a_task_calibrate_nothing() -> None:
    rows = families([5] * 4, dimension=32, spread=0.3)
    found = calibrate(sample(rows), sample(rows, trainings=[*"abcde"] * 4), NO_STEPS, default=DEFAULT)
    assert found.near_similarity.note.startswith(SETTING)
    assert "no more alike" in found.near_similarity.note
    assert found.reseed_distance is not None


def test_a_task_never_begins_above_near_duplicates() -> None:
    preview = calibrate(NOTHING, NOTHING, NO_STEPS, default=DEFAULT).at(0.7)
    assert (preview.near_similarity.value, preview.same_task.value) == (0.7, 0.7)
    assert DEFAULT.at(0.9).same_task == DEFAULT.same_task


@settings(max_examples=20)
@given(st.permutations(range(20)))
def test_the_order_of_versions_changes_no_threshold(order: list[int]) -> None:
    rows, trainings = families([5, 5, 5, 5], dimension=16, spread=0.4), [*FIVE_TRAININGS, *[None] * 5]
    one = calibrate(sample(rows), sample(rows, trainings=trainings), NO_STEPS, default=DEFAULT)
    shuffled = sample(rows[order], trainings=[trainings[row] for row in order])
    other = calibrate(shuffled, shuffled, NO_STEPS, default=DEFAULT)
    assert other.same_task.value == one.same_task.value
    assert other.near_similarity.value == one.near_similarity.value


def test_drift_is_several_times_what_a_seed_moves() -> None:
    rows = families([3] * 5, dimension=64, spread=0.15)
    steps = Steps(np.full(40, 0.3, np.float32), 8)
    found = calibrate(NOTHING, sample(rows, trainings=FIVE_TRAININGS), steps, default=DEFAULT)
    assert found.reseed_distance is not None
    assert found.drift.value == pytest.approx(5 * found.reseed_distance, abs=1e-3)
    assert "reseeds (median of 15 pairs)" in found.drift.note
    assert found.step_distance == pytest.approx(0.3)


def test_without_reseeds_drift_is_several_times_what_a_new_version_moves() -> None:
    found = calibrate(NOTHING, NOTHING, Steps(np.array([0.02] * 9 + [0.9, 0.9], np.float32), 6), default=DEFAULT)
    assert (found.drift.value, found.drift.pairs) == (0.1, 11)
    assert "successive versions (median of 11 steps)" in found.drift.note


@pytest.mark.parametrize(("steps", "models"), [(9, 9), (20, 4)])
def test_a_few_steps_leave_the_setting_for_drift(steps: int, models: int) -> None:
    found = calibrate(NOTHING, NOTHING, Steps(np.full(steps, 0.02, np.float32), models), default=DEFAULT)
    assert found.drift.value == 0.5
    assert f"{steps} steps of {models} models are known, 10 of 5 are needed" in found.drift.note


def test_versions_that_hardly_move_make_no_drift_of_rounding() -> None:
    found = calibrate(NOTHING, NOTHING, Steps(np.full(20, 1e-6, np.float32), 10), default=DEFAULT)
    assert found.drift.value == 0.02


def test_the_expected_number_of_false_pairs_grows_with_the_registry() -> None:
    rows = families([3] * 5, dimension=64, spread=0.15)
    reseeds = sample(rows, trainings=FIVE_TRAININGS)
    apart = calibrate(reseeds, reseeds, NO_STEPS, default=DEFAULT)
    assert (apart.other_pairs, apart.other_near) == (15 * 14 // 2 - 15, 0)
    assert apart.false_pairs(100) == pytest.approx(3 / 90 * 4950)
    assert apart.false_pairs_in_words(100) == (
        "of 90 pairs of other trainings none reach it: at most 165 such pairs among 100 versions"
    )
    mixed = sample(rows, trainings=[None, *FIVE_TRAININGS[:-1]])
    alike = calibrate(mixed, reseeds, NO_STEPS, default=DEFAULT)
    assert alike.other_near > 0
    assert alike.false_pairs(1000) == pytest.approx(alike.other_near / alike.other_pairs * 499_500)
    nobody = Sample(np.empty(0, np.float32), [], [])  # as a query without rows returns it
    assert calibrate(nobody, nobody, NO_STEPS, default=DEFAULT).false_pairs(100) is None
    assert (
        calibrate(reseeds, NOTHING, NO_STEPS, default=default_calibration(ThresholdSettings())).false_pairs(9) is None
    )
