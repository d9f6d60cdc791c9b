"""Groups of redundant versions on a real store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltadex.duplicates.group import Group, Redundancy
from deltadex.duplicates.overview import RecipeRedundancy, redundancies
from deltadex.findings import queries as findings
from deltadex.findings.kinds import Reason
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from tests.stored import ADMIN, REGISTRY, discovered, embedded

SETTINGS = Settings(
    registry=REGISTRY,
    bases={"sql": "models:/sql-base/1"},
    thresholds=ThresholdSettings(near_duplicate_similarity=0.95, same_task_similarity=0.8),
)
SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])


def groups(tx: Transaction, **options: float) -> list[RecipeRedundancy]:
    return redundancies(tx, ADMIN, SETTINGS, **options)


def names(found: RecipeRedundancy) -> list[tuple[Redundancy, list[str]]]:
    return [(group.kind, [row.label for row in group.versions]) for group in found.groups]


def kept(group: Group) -> str:
    assert group.proposal.keeper is not None
    return group.proposal.keeper.label


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
    assert [kept(group) for group in found.groups] == ["b/1", "c/2", "c/2", "c/2"]
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


def test_what_others_need_is_never_retired(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "original", SQL, weights="same", source="runs:/a/model")
        embedded(tx, "copy", SQL, weights="same", source="models:/original/1", aliases=("champion",))
        embedded(tx, "sql-base", LEGAL, weights="other")
        embedded(tx, "again", LEGAL, weights="other", version=2)
        discovered(tx, "finetune", tags={"deltadex.base": "/train/sql"})
        blocked, alike = groups(tx)[0].of_kind(Redundancy.EXACT)
    assert blocked.proposal.keeper is None
    assert blocked.proposal.reason == "nothing can be retired: original/1 has the copy copy/1"
    assert blocked.proposal.advice == "Leave it as it is: others need it."
    assert (kept(alike), [row.label for row in alike.proposal.retired]) == ("sql-base/1", ["again/2"])
    assert alike.proposal.reason == "is the base of finetune"


def test_a_hidden_copy_is_not_named(database: Database) -> None:
    with database.transaction() as tx:
        for name in ("original", "newer"):
            embedded(tx, name, SQL, weights="same")
        embedded(tx, "secret", SQL, weights="other", source="models:/original/1")
        viewer = replace(ADMIN, models=("original", "newer"))
        [group] = redundancies(tx, viewer, SETTINGS)[0].of_kind(Redundancy.EXACT)
    assert "secret" not in f"{group.proposal}"
    assert group.proposal.reason == "is needed elsewhere"


def test_a_version_with_an_open_finding_of_high_severity_is_not_kept_until_it_is_decided(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "sound", SQL, weights="same")
        wrong = embedded(tx, "wrong", SQL, weights="same", version=2)
        mismatch = Finding(FindingKind.WRONG_BASE, wrong, measure=0.5, threshold=0.1)
        findings.replace(tx, [mismatch], version_id=wrong, recipe_id=None, kinds=[FindingKind.WRONG_BASE])
        reviews.follow(tx, SETTINGS)
        [group] = groups(tx)[0].of_kind(Redundancy.EXACT)
        assert (kept(group), [row.label for row in group.proposal.retired]) == ("sound/1", ["wrong/2"])
        [review] = reviews.listing(tx, ADMIN, SETTINGS, kinds=[FindingKind.WRONG_BASE])
        seen = {review.id: review.revision}
        reviews.decide(
            tx, ADMIN, SETTINGS, seen, decision=Decision.DISMISSED, reason=Reason.DECLARATION_IS_RIGHT, comment="Right."
        )
        [group] = groups(tx)[0].of_kind(Redundancy.EXACT)
    assert kept(group) == "wrong/2"
