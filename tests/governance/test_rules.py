"""What becomes a finding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.domain import FindingKind
from deltadex.governance import rules
from deltadex.settings import ThresholdSettings
from tests.store.examples import embedding

THRESHOLDS = ThresholdSettings(near_duplicate_similarity=0.9, drift_distance=0.5, weak_strength=0.01)


def test_equal_weights_are_exact_and_never_near_as_well() -> None:
    found = rules.judge_pairs(5, [2], [(2, 1.0), (7, 0.95), (8, 0.89)], thresholds=THRESHOLDS)
    assert [(one.kind, one.version_id, one.other_id) for one in found] == [
        (FindingKind.EXACT_DUPLICATE, 5, 2),
        (FindingKind.NEAR_DUPLICATE, 7, 5),
    ]
    assert (found[1].measure, found[1].threshold) == (0.95, 0.9)


@given(st.integers(0, 9), st.lists(st.integers(0, 9)), st.lists(st.tuples(st.integers(0, 9), st.floats(-1, 1))))
def test_a_pair_names_the_older_version_second_and_never_itself(
    version: int, same: list[int], near: list[tuple[int, float]]
) -> None:
    for found in rules.judge_pairs(version, same, near, thresholds=THRESHOLDS):
        assert found.other_id is not None
        assert found.other_id < found.version_id
        assert version in (found.version_id, found.other_id)


def test_only_a_long_step_is_drift_and_it_keeps_its_numbers() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    [found] = rules.judge_drift([3, 4, 6], vectors, thresholds=THRESHOLDS)
    assert (found.kind, found.version_id, found.other_id, found.threshold) == (FindingKind.DRIFT, 6, 4, 0.5)
    assert found.measure == pytest.approx(1 - 0.1 / np.hypot(1, 0.1), abs=1e-6)
    assert set(found.evidence) == {"norm_ratio", "distance_from_first"}


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
    assert (found.kind, found.measure) == (FindingKind.TOO_WEAK, pytest.approx(0.005))
