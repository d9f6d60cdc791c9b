"""Rules for findings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.clusters import labels
from deltadex.drift.line import Break, Change, Move, Step
from deltadex.drift.rules import judge_drift
from deltadex.findings import rules
from deltadex.setting_groups import ThresholdSettings
from deltadex.types import FindingKind, ModelVersionRef
from tests.stored import embedding

THRESHOLDS = ThresholdSettings(drift_distance=0.5)
MOVE = Move(recipe_id=1, distance=0.6, strength_ratio=1.0, probe_distances=(0.5, 0.7), noise=0.1, limit=0.5)


def test_a_jump_is_drift_from_the_version_before_and_a_creep_from_where_it_began() -> None:
    jump = Step(None, MOVE, MOVE, None, Change.JUMP, reference=0, measure=0.8)
    creep = Step(None, replace(MOVE, distance=0.3), MOVE, None, Change.CREEP, reference=1, measure=0.55)
    steps = [Step(None, MOVE, MOVE, None), jump, Step(Break.BASE, None, None, None), creep]
    found = judge_drift([3, 4, 6, 7, 9], steps, 5 * [False], recipe_id=1)
    assert [(one.version_id, one.other_id, one.measure, one.threshold) for one in found] == [
        (6, 4, 0.6, 0.5),
        (9, 4, 0.55, 0.5),
    ]
    assert [one.evidence["change"] for one in found] == ["jump", "creep"]
    assert found[0].evidence["probe_distances"] == (0.5, 0.7)
    assert judge_drift([3, 4, 6, 7, 9], steps, 5 * [False], recipe_id=2) == []


def contradiction(declared: str, **similarities: list[float]) -> str | None:
    thresholds = ThresholdSettings(label_margin=0.2, label_versions=3)
    found = labels.judge_label(1, declared, similarities, thresholds=thresholds)
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
    for found in labels.judge_label(1, "a", similarities, thresholds=THRESHOLDS):
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
