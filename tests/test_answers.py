"""The questions of dashboard and command line, on a real store."""

from __future__ import annotations

import numpy as np

from deltadex import answers
from deltadex.store.database import Database
from tests.store.examples import REGISTRY, embedded

SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])


def test_exact_groups_come_first_and_a_near_group_may_go_beyond_them(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", SQL, weights="same")
        embedded(tx, "b", SQL, weights="same")
        embedded(tx, "c", SQL + 0.01)
        embedded(tx, "d", LEGAL)
        groups = answers.duplicate_groups(tx, REGISTRY, min_similarity=0.95)
    names = [[row.registered.ref.name for row in group.versions] for group in groups]
    assert names == [["a", "b"], ["a", "b", "c"]]
    assert [group.is_exact for group in groups] == [True, False]
    assert groups[0].lowest_similarity == 1
    assert 0.95 <= groups[1].lowest_similarity < 1


def test_equal_weights_alone_are_one_group(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", SQL, weights="same")
        embedded(tx, "b", SQL, weights="same")
        groups = answers.duplicate_groups(tx, REGISTRY, min_similarity=0.95)
    assert [group.is_exact for group in groups] == [True]


def test_weak_versions_and_other_bases_are_never_compared(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", SQL)
        embedded(tx, "b", SQL, is_weak=True)
        embedded(tx, "c", SQL, base="another base")
        assert answers.duplicate_groups(tx, REGISTRY, min_similarity=-1) == []


def test_drift_follows_version_numbers_whatever_the_order_of_embedding(database: Database) -> None:
    with database.transaction() as tx:
        for version, vector in ((3, LEGAL), (1, SQL), (2, SQL)):
            embedded(tx, "one", vector, version=version)
        embedded(tx, "two", SQL)
        [drifted] = answers.model_drifts(tx, REGISTRY)
        assert answers.model_drifts(tx, REGISTRY, name="two") == []
    assert [row.registered.ref.version for row in drifted.versions] == [1, 2, 3]
    assert drifted.steps[0].distance < 0.01 < 0.9 < drifted.steps[1].distance == drifted.largest_step
