"""Groups of redundant versions on a real store."""

from __future__ import annotations

import numpy as np

from deltadex.analysis.redundancy import Redundancy
from deltadex.redundancy import RecipeRedundancy, redundancies
from deltadex.settings import ThresholdSettings
from deltadex.store.database import Database, Transaction
from tests.store.examples import REGISTRY, embedded

SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])


def groups(tx: Transaction, **options: float) -> list[RecipeRedundancy]:
    return redundancies(tx, REGISTRY, thresholds=ThresholdSettings(), **options)


def names(found: RecipeRedundancy) -> list[tuple[Redundancy, list[str]]]:
    return [(group.kind, [row.label for row in group.versions]) for group in found.groups]


def test_the_keeper_of_a_stricter_group_stands_for_it_in_the_next(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", SQL, weights="same")
        embedded(tx, "b", SQL, weights="same")
        embedded(tx, "c", SQL + 0.01)
        embedded(tx, "c", SQL + 0.02, version=2)
        embedded(tx, "task", SQL + np.array([0, 0.6, 0, 0]))
        embedded(tx, "d", LEGAL)
        [found] = groups(tx)
    assert names(found) == [
        (Redundancy.EXACT, ["a/1", "b/1"]),
        (Redundancy.SUPERSEDED, ["c/1", "c/2"]),
        (Redundancy.NEAR, ["b/1", "c/2"]),
        (Redundancy.SAME_TASK, ["task/1", "c/2"]),
    ]
    assert [group.keeper.version.label for group in found.groups] == ["b/1", "c/2", "c/2", "c/2"]
    assert found.groups[0].lowest_similarity == 1
    assert found.calibration.same_task.note == "the setting: 4 models, 15 are needed to calibrate"


def test_weak_versions_are_listed_and_other_bases_are_never_compared(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", SQL)
        embedded(tx, "b", SQL, is_weak=True)
        embedded(tx, "c", SQL, base="another base")
        found = groups(tx, similarity=-1.0)
    assert [one.groups for one in found] == [(), ()]
    assert [[row.label for row in one.too_weak] for one in found] == [["b/1"], []]


def test_a_preview_changes_what_counts_as_near(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", SQL)
        embedded(tx, "b", SQL + np.array([0, 0.4, 0, 0]))
        [(_, task)], [(_, near)] = ([(None, one) for one in groups(tx, similarity=at)] for at in (0.95, 0.9))
    assert [names(task)[0][0], names(near)[0][0]] == [Redundancy.SAME_TASK, Redundancy.NEAR]
