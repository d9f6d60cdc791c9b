"""Groups of redundant versions, their keepers and freed space."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deltadex.duplicates.group import Group, Redundancy, freed_bytes
from deltadex.duplicates.levels import redundant_groups
from deltadex.duplicates.pairs import similar_pairs
from deltadex.findings.calibration import Calibration, Threshold
from deltadex.types import Provenance, Queue, State, VersionRow
from tests.stored import registered
from tests.synthetic import families

_UNKNOWN = Provenance()
CALIBRATION = Calibration(Threshold(0.95), Threshold(0.8), Threshold(0.8), Threshold(0.5))


def version(
    row: int,
    *,
    model: str | None = None,
    weights: str | None = None,
    provenance: Provenance = _UNKNOWN,
    **values: object,
) -> VersionRow:
    now = datetime.now(UTC)
    value = registered(model or f"model-{row}", version=row + 1, created_ms=row, **values)
    digest = weights or f"weights-{row}"
    return VersionRow(
        row, value, State.EMBEDDED, now, now, 1, Queue.FRESH, weights_digest=digest, provenance=provenance
    )


def grouped(rows: list[VersionRow], vectors: np.ndarray) -> list[Group]:
    pairs = similar_pairs(vectors, CALIBRATION.same_task.value)
    return redundant_groups(rows, vectors, pairs=pairs, calibration=CALIBRATION)


def company() -> tuple[list[VersionRow], np.ndarray]:
    vectors = families([8, 6, 5, 1], dimension=24, spread=0.25)
    vectors[[3, 12]] = vectors[[2, 9]]
    vectors[5], vectors[4] = 1.1 * vectors[0], vectors[1] + 0.01
    weights = {3: "weights-2", 12: "weights-9"}
    rows = [version(row, model=f"model-{row % 5}", weights=weights.get(row)) for row in range(len(vectors))]
    return rows, vectors


@settings(max_examples=40)
@given(st.permutations(range(20)))
def test_the_order_in_which_versions_arrive_changes_no_group(order: list[int]) -> None:
    rows, vectors = company()
    before = grouped(rows, vectors)
    # Arriving in another order means other row ids as well.
    arrived = [version(row, model=f"model-{row % 5}", weights=rows[row].weights_digest) for row in order]
    after = grouped(arrived, vectors[order])
    described = [
        [
            (group.kind, [row.label for row in group.versions], [row.label for row in group.proposal.retired])
            for group in groups
        ]
        for groups in (before, after)
    ]
    assert described[0] == described[1]
    assert {group.kind for group in before} == set(Redundancy)


def test_no_two_versions_are_redundant_in_two_ways() -> None:
    groups = grouped(*company())
    pairs = [
        frozenset((one.id, other.id))
        for group in groups
        for one in group.versions
        for other in group.versions
        if one.id < other.id
    ]
    assert len(pairs) == len(set(pairs))


def test_models_that_only_a_chain_connects_are_not_for_the_same_task() -> None:
    angles = np.radians(np.arange(0, 181, 30))
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    groups = grouped([version(row) for row in range(7)], vectors)
    assert len(groups) > 1
    assert all(group.lowest_similarity > 0.4 for group in groups)


def test_the_same_direction_at_another_strength_is_the_same_task_at_most() -> None:
    vectors = np.array([[1, 0], [2, 0]], dtype=np.float32)
    [group] = grouped([version(0), version(1)], vectors)
    assert (group.kind, group.lowest_norm_ratio) == (Redundancy.SAME_TASK, 0.5)


def test_files_that_are_kept_or_shared_free_nothing_twice() -> None:
    sized = Provenance(100)
    kept, copy = version(0, source="runs:/a", provenance=sized), version(1, source="runs:/a", provenance=sized)
    two = [version(row, source="runs:/b", provenance=sized) for row in (2, 3)]
    within = version(4, source="models:/model-0/1", provenance=sized)
    logged = version(5, source="models:/m-12", provenance=sized)
    assert freed_bytes([copy, *two, within, logged], [kept]) == 200
    assert freed_bytes([copy], [kept]) == 0
    assert freed_bytes([version(6)], [kept]) is None
