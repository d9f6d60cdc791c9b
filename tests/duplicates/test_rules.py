"""Rules for duplicates and repeated tasks, on arrival of a version and over all versions."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.duplicates import rules
from deltadex.duplicates.all_pairs import MEMBER, PAIR, Members, Pairs
from deltadex.duplicates.group import Redundancy
from deltadex.duplicates.levels import redundant_groups
from deltadex.duplicates.rules import Compared
from deltadex.findings import calibration
from deltadex.setting_groups import ThresholdSettings
from deltadex.types import FindingKind, Queue, State, VersionRow
from tests.stored import registered

THRESHOLDS = ThresholdSettings(near_duplicate_similarity=0.9, near_duplicate_norm_ratio=0.8, same_task_similarity=0.7)
CALIBRATION = calibration.default_calibration(THRESHOLDS)


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


def members(*norms: float, models: list[int] | None = None, weights: list[int] | None = None) -> Members:
    count = range(len(norms))
    return np.array(list(zip(count, count, models or count, weights or count, norms, strict=True)), dtype=MEMBER)


def pair(similarity: float) -> Pairs:
    return np.array([(0, 1, similarity)], dtype=PAIR)


def test_a_task_is_repeated_from_the_threshold_on() -> None:
    repeated = [rules.repeated_tasks(pair(at), members(1, 1), calibration=CALIBRATION) for at in (0.69, 0.7, 0.89)]
    assert [len(found) for found in repeated] == [0, 1, 1]


def test_a_duplicate_says_already_that_the_task_is_the_same() -> None:
    assert len(rules.repeated_tasks(pair(0.95), members(1, 1), calibration=CALIBRATION)) == 0
    assert len(rules.repeated_tasks(pair(0.95), members(0.1, 1), calibration=CALIBRATION)) == 1
    same = members(0.1, 1, weights=[0, 0])
    assert len(rules.repeated_tasks(pair(0.95), same, calibration=CALIBRATION)) == 0


@pytest.mark.parametrize(
    ("similarity", "norms", "same_model", "same_weights"),
    [
        *product(
            (0.9, np.nextafter(0.9, 0), 0.95, 1.0, 0.0),
            ((1.0, 1.0), (0.8, 1.0), (1.0, np.nextafter(0.8, 0)), (0.0, 1.0), (0.0, 0.0), (1.6e-300, 2e-300)),
            (False, True),
            (False, True),
        )
    ],
)
def test_what_is_near_as_it_arrives_is_near_among_all(
    similarity: float, norms: tuple[float, float], same_model: bool, same_weights: bool
) -> None:
    older, newer = version(0), version(1, model="model-0" if same_model else None)
    nearest = Compared(older, similarity, float(rules.norm_ratio(*norms)))
    arrived = rules.judge_pairs(newer, [older] if same_weights else [], [nearest], calibration=CALIBRATION)
    both = members(*norms, models=[0, 0] if same_model else None, weights=[0, 0] if same_weights else None)
    among_all = rules.near_duplicates(pair(similarity), both, calibration=CALIBRATION)
    is_near = similarity >= 0.9 and min(norms) > 0 and min(norms) / max(norms) >= 0.8
    assert (FindingKind.NEAR_DUPLICATE in {one.kind for one in arrived}) == bool(len(among_all))
    assert bool(len(among_all)) == (is_near and not same_model and not same_weights)


@given(st.floats(0.85, 0.95), st.floats(0.7, 0.9))
def test_groups_of_near_duplicates_are_made_by_the_same_rule(similarity: float, shorter: float) -> None:
    vectors = np.array([[1.0, 0.0], [similarity * shorter, (1 - similarity**2) ** 0.5 * shorter]])
    norms = np.linalg.norm(vectors, axis=1)
    rows = [version(0), version(1)]
    groups = redundant_groups(rows, vectors, pairs=pair(similarity), calibration=CALIBRATION)
    among_all = rules.near_duplicates(pair(similarity), members(*norms), calibration=CALIBRATION)
    assert (Redundancy.NEAR in {group.kind for group in groups}) == bool(len(among_all))
