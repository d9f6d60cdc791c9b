"""What becomes a finding."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.analysis.drift import Break, Change, Move, Step
from deltadex.domain import FindingKind, ModelVersionRef, Queue, State, VersionRow
from deltadex.governance import rules
from deltadex.governance.rules import Compared
from deltadex.settings import ThresholdSettings
from tests.store.examples import embedding, registered

THRESHOLDS = ThresholdSettings(
    near_duplicate_similarity=0.9, near_duplicate_norm_ratio=0.8, same_task_similarity=0.7, drift_distance=0.5
)
CALIBRATION = rules.default_calibration(THRESHOLDS)
MOVE = Move(recipe_id=1, distance=0.6, strength_ratio=1.0, probe_distances=(0.5, 0.7), noise=0.1)


def version(row: int, *, model: str | None = None, created_ms: int | None = None) -> VersionRow:
    """A version that is as old as its row, of a model of its own, unless said otherwise."""
    created = row if created_ms is None else created_ms
    value = registered(model or f"model-{row}", version=row + 1, created_ms=created)
    now = datetime.now(UTC)
    return VersionRow(row, value, State.EMBEDDED, now, now, 1, Queue.FRESH)


def compared(row: int, similarity: float, *, norm_ratio: float = 1.0, model: str | None = None) -> Compared:
    return Compared(version(row, model=model), similarity, norm_ratio)


def test_equal_weights_are_exact_and_never_near_as_well() -> None:
    neighbors = [compared(2, 1.0), compared(7, 0.95), compared(8, 0.89)]
    found = rules.judge_pairs(version(5), [version(2)], neighbors, calibration=CALIBRATION)
    assert [(one.kind, one.version_id, one.other_id) for one in found] == [
        (FindingKind.EXACT_DUPLICATE, 5, 2),
        (FindingKind.NEAR_DUPLICATE, 7, 5),
    ]
    assert (found[1].measure, found[1].threshold, found[1].evidence["norm_ratio"]) == (0.95, 0.9, 1.0)


def test_the_same_direction_at_another_strength_is_no_near_duplicate() -> None:
    neighbors = [compared(1, 0.99, norm_ratio=0.79), compared(2, 0.99, norm_ratio=0.8)]
    found = rules.judge_pairs(version(5), [], neighbors, calibration=CALIBRATION)
    assert [one.other_id for one in found] == [2]


def test_a_later_version_of_a_model_supersedes_the_earlier_one_unless_it_is_the_same_again() -> None:
    same_model = [compared(1, 0.99, model="model-5")]
    assert rules.judge_pairs(version(5), [], same_model, calibration=CALIBRATION) == []
    assert rules.judge_same_task(version(5), [], same_model, calibration=CALIBRATION) == []
    again = version(1, model="model-5")
    [found] = rules.judge_pairs(version(5), [again], same_model, calibration=CALIBRATION)
    assert found.kind is FindingKind.EXACT_DUPLICATE


def test_the_older_one_is_the_one_that_was_registered_first_not_the_one_that_was_seen_first() -> None:
    late_row = Compared(version(9, created_ms=1), 0.95, 1.0)
    [found] = rules.judge_pairs(version(5), [], [late_row], calibration=CALIBRATION)
    assert (found.version_id, found.other_id) == (5, 9)


@given(
    st.integers(0, 9), st.sets(st.integers(0, 9)), st.lists(st.tuples(st.integers(0, 9), st.floats(-1, 1)), unique=True)
)
def test_a_pair_names_the_older_version_second_and_never_itself(
    row: int, same: set[int], near: list[tuple[int, float]]
) -> None:
    neighbors = [compared(other, similarity) for other, similarity in near if other != row]
    for found in rules.judge_pairs(version(row), map(version, same), neighbors, calibration=CALIBRATION):
        assert found.other_id is not None
        assert found.other_id < found.version_id
        assert row in (found.version_id, found.other_id)


def test_the_same_task_is_said_once_with_the_closest_older_version() -> None:
    neighbors = [compared(1, 0.75), compared(2, 0.85), compared(9, 0.89), compared(3, 0.6)]
    [found] = rules.judge_same_task(version(5), [], neighbors, calibration=CALIBRATION)
    assert (found.kind, found.version_id, found.other_id) == (FindingKind.SAME_TASK, 5, 2)
    assert (found.measure, found.threshold, found.evidence["threshold_from"]) == (0.85, 0.7, "the setting")
    assert rules.judge_same_task(version(0), [], neighbors, calibration=CALIBRATION) == []


def test_a_duplicate_says_already_that_the_task_is_the_same() -> None:
    neighbors = [compared(1, 0.75), compared(2, 0.95)]
    assert rules.judge_same_task(version(5), [], neighbors, calibration=CALIBRATION) == []
    weaker = [compared(2, 0.95, norm_ratio=0.1)]
    assert len(rules.judge_same_task(version(5), [], weaker, calibration=CALIBRATION)) == 1
    assert rules.judge_same_task(version(5), [version(2)], weaker, calibration=CALIBRATION) == []


def test_a_jump_is_drift_from_the_version_before_and_a_creep_from_where_it_began() -> None:
    jump = Step(None, MOVE, MOVE, None, Change.JUMP, reference=0, measure=0.8)
    creep = Step(None, replace(MOVE, distance=0.3), MOVE, None, Change.CREEP, reference=1, measure=0.55)
    steps = [Step(None, MOVE, MOVE, None), jump, Step(Break.BASE, None, None, None), creep]
    found = rules.judge_drift([3, 4, 6, 7, 9], steps, recipe_id=1, thresholds=THRESHOLDS)
    assert [(one.version_id, one.other_id, one.measure, one.threshold) for one in found] == [
        (6, 4, 0.6, 0.5),
        (9, 4, 0.55, 0.5),
    ]
    assert [one.evidence["change"] for one in found] == ["jump", "creep"]
    assert found[0].evidence["probe_distances"] == (0.5, 0.7)
    assert rules.judge_drift([3, 4, 6, 7, 9], steps, recipe_id=2, thresholds=THRESHOLDS) == []


def contradiction(declared: str, **similarities: list[float]) -> str | None:
    thresholds = ThresholdSettings(label_margin=0.2, label_versions=3)
    found = rules.judge_label(1, declared, similarities, thresholds=thresholds)
    return str(found[0].evidence["moves_like"]) if found else None


def test_a_version_that_moves_like_another_label_contradicts_its_own() -> None:
    near, far = [0.9, 0.85, 0.8], [0.3, 0.2, 0.1]
    assert contradiction("legal", legal=far, code=near) == "code"
    assert contradiction("legal", legal=near, code=far) is None
    assert contradiction("legal", legal=[0.7, 0.7, 0.7], code=near) is None  # no clear margin: perhaps one thing


def test_labels_that_too_few_declare_are_not_judged_and_judge_nobody() -> None:
    near, far = [0.9, 0.85, 0.8], [0.3, 0.2, 0.1]
    assert contradiction("legal", legal=far[:2], code=near) is None
    assert contradiction("legal", code=near) is None
    assert contradiction("legal", legal=far, code=near[:2]) is None
    assert contradiction("legal", legal=far, code=near[:2], sql=[0.6, 0.6, 0.6]) == "sql"


def test_the_nearest_of_a_label_count_and_one_stray_does_not() -> None:
    assert contradiction("legal", legal=[0.9, 0.9, 0.8, -0.5, -0.5, -0.5, -0.5], code=[0.95] * 9) is None
    assert contradiction("legal", legal=[0.95, 0.1, 0.1], code=[0.9, 0.9, 0.8]) == "code"


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.floats(-1, 1), max_size=6)))
def test_a_contradiction_carries_the_numbers_it_rests_on(similarities: dict[str, list[float]]) -> None:
    for found in rules.judge_label(1, "a", similarities, thresholds=THRESHOLDS):
        evidence = found.evidence
        assert evidence["declared"] == "a" != evidence["moves_like"]
        assert found.measure == evidence["similarity_to_moves_like"] - evidence["similarity_to_declared"]
        assert found.measure >= found.threshold == THRESHOLDS.label_margin


def test_a_weak_finetune_is_said_to_be_weak() -> None:
    weak, strong = embedding(np.array([0.05, 0])), embedding(np.array([5.0, 0]))
    assert rules.judge_weak(1, strong, thresholds=THRESHOLDS) == []
    [found] = rules.judge_weak(1, weak, thresholds=THRESHOLDS)
    assert (found.kind, found.measure, found.threshold) == (FindingKind.TOO_WEAK, pytest.approx(0.005), 0.01)
    assert found.evidence["reason"] == "strength"


def test_a_finetune_that_is_hardly_stronger_than_the_noise_is_too_weak() -> None:
    # In bfloat16 the base's own states move by 2 % of their norm (README).
    noisy = replace(embedding(np.array([0.9, 0])), noise_floor=0.02)
    [found] = rules.judge_weak(1, noisy, thresholds=THRESHOLDS)
    assert (found.measure, found.threshold) == (pytest.approx(0.09), pytest.approx(0.1))
    assert found.evidence["reason"] == "noise"
    assert rules.judge_weak(1, replace(noisy, noise_floor=0.01), thresholds=THRESHOLDS) == []


def test_probes_that_have_nothing_in_common_place_nothing() -> None:
    unrelated = replace(embedding(np.zeros(5)), probe_deltas=np.eye(5, dtype=np.float32))
    [found] = rules.judge_weak(1, unrelated, thresholds=THRESHOLDS)
    assert (found.measure, found.threshold) == (pytest.approx(0.2**0.5), 0.6)
    assert found.evidence["reason"] == "probe agreement"


def test_versions_of_one_moment_still_have_an_order() -> None:
    refs = [ModelVersionRef("r", "b", 1, 5), ModelVersionRef("r", "a", 2, 5), ModelVersionRef("r", "a", 1, 5)]
    assert [ref.label for ref in sorted(refs, key=lambda ref: ref.age)] == ["a/1", "a/2", "b/1"]
