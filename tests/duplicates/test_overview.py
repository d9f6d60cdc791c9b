"""Groups of redundant versions on a real store."""

from __future__ import annotations

import numpy as np

from deltadex.duplicates.groups import Redundancy
from deltadex.duplicates.overview import RecipeRedundancy, freed_by_findings, redundancies
from deltadex.findings import queries as findings
from deltadex.settings import ThresholdSettings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from tests.stored import ADMIN, REGISTRY, embedded

SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])


def groups(tx: Transaction, **options: float) -> list[RecipeRedundancy]:
    return redundancies(
        tx,
        ADMIN,
        REGISTRY,
        thresholds=ThresholdSettings(near_duplicate_similarity=0.95, same_task_similarity=0.8),
        **options,
    )


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


def test_what_findings_tell_to_be_redundant_is_freed_but_for_the_keeper(database: Database) -> None:
    with database.transaction() as tx:
        ids = [embedded(tx, name, SQL) for name in ("a", "b", "c", "d")]
        assert freed_by_findings(tx, REGISTRY) == 0
        sizes = [(100 * 2**place, each) for place, each in enumerate(ids)]
        for size, each in sizes:
            tx.execute("update model_versions set weights_bytes = %s where id = %s", [size, each])
        for kind, version, other in (
            (FindingKind.EXACT_DUPLICATE, 1, 0), (FindingKind.NEAR_DUPLICATE, 2, 1), (FindingKind.SAME_TASK, 3, 2),
        ):  # fmt: skip
            found = [Finding(kind, ids[version], ids[other])]
            findings.replace(tx, found, version_id=ids[version], recipe_id=1, kinds=[kind])
        assert freed_by_findings(tx, REGISTRY) == 100 + 200
