from __future__ import annotations

from dataclasses import replace

from deltadex.embeddings.queries import of_version
from deltadex.findings import queries as findings
from deltadex.findings.queries import FindingRow
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, ModelVersionRef, State
from deltadex.versions import transitions
from tests.embeddings.test_queries import RIGHT
from tests.stored import REGISTRY, embedded

NEAR, WEAK, DRIFT = FindingKind.NEAR_DUPLICATE, FindingKind.TOO_WEAK, FindingKind.DRIFT


def test_a_finding_comes_back_with_both_versions_and_its_numbers(database: Database) -> None:
    with database.transaction() as tx:
        older, newer = _versions(tx, 2)
        finding = Finding(NEAR, newer, older, measure=0.97, threshold=0.95, evidence={"why": [1, "x"]})
        _replace(tx, newer, finding)
        [row] = findings.listing(tx, REGISTRY)
    assert row.finding == finding
    assert row.other is not None
    assert (row.version.id, row.other.id) == (newer, older)


def test_replacing_keeps_what_stays_and_removes_what_went(database: Database) -> None:
    with database.transaction() as tx:
        one, two, three = _versions(tx, 3)
        pair, other_pair = _near(two, one), _near(three, two)
        _replace(tx, two, pair, other_pair, Finding(WEAK, two))
        before = _by_pair(tx)
    with database.transaction() as tx:
        _replace(tx, two, replace(pair, measure=0.99), _near(three, two))
        after = _by_pair(tx)
    assert set(after) == {(two, one), (three, two)}
    assert after[three, two] == before[three, two]
    assert after[two, one].finding.measure == 0.99
    assert (after[two, one].id, after[two, one].found_at) == (before[two, one].id, before[two, one].found_at)


def test_replacing_touches_only_these_kinds_and_this_version(database: Database) -> None:
    with database.transaction() as tx:
        one, two, three = _versions(tx, 3)
        _replace(tx, one, Finding(WEAK, one))
        _replace(tx, three, _near(three, two), Finding(WEAK, three))
        findings.replace(tx, [], version_id=two, recipe_id=None, kinds=[NEAR])
        assert {(row.finding.kind, row.version.id) for row in findings.listing(tx, REGISTRY)} == {
            (WEAK, one),
            (WEAK, three),
        }


def test_a_finding_under_a_new_recipe_takes_the_place_of_the_old_one(database: Database) -> None:
    with database.transaction() as tx:
        one, two = _versions(tx, 2)
        other_recipe = of_version(tx, embedded(tx, "x", RIGHT, base="other"))[0].recipe.id
        _replace(tx, two, _near(two, one))
        findings.replace(tx, [_near(two, one)], version_id=two, recipe_id=other_recipe, kinds=[NEAR])
        assert len(findings.listing(tx, REGISTRY)) == 1


def test_drift_is_replaced_for_a_whole_model_under_one_recipe(database: Database) -> None:
    with database.transaction() as tx:
        first, third = (embedded(tx, "support", RIGHT, version=version) for version in (1, 3))
        recipe_id = of_version(tx, first)[0].recipe.id
        ref = ModelVersionRef(REGISTRY, "support", 1, 0)
        elsewhere = [embedded(tx, "other", RIGHT, version=version) for version in (1, 2)]
        findings.replace_drift(tx, [_drift(*elsewhere)], ref=replace(ref, name="other"), recipe_id=recipe_id)
        findings.replace_drift(tx, [_drift(first, third)], ref=ref, recipe_id=recipe_id)
        second = embedded(tx, "support", RIGHT, version=2)
        findings.replace_drift(tx, [_drift(second, third)], ref=ref, recipe_id=recipe_id)
        assert set(_by_pair(tx)) == {tuple(reversed(elsewhere)), (third, second)}
        rebased = [embedded(tx, "support", RIGHT, version=version, base="new") for version in (4, 5)]
        new_recipe = of_version(tx, rebased[0])[0].recipe.id
        findings.replace_drift(tx, [_drift(*rebased)], ref=ref, recipe_id=new_recipe)
        assert len(findings.listing(tx, REGISTRY, kinds=[DRIFT])) == 3


def test_listing_gives_what_was_asked_for_newest_first(database: Database) -> None:
    with database.transaction() as tx:
        one, two, three = _versions(tx, 3)
        _replace(tx, two, _near(two, one), Finding(WEAK, two))
    with database.transaction() as tx:
        _replace(tx, three, _near(three, one))
        assert [row.version.id for row in findings.listing(tx, REGISTRY)] == [three, two, two]
        assert [row.version.id for row in findings.listing(tx, REGISTRY, kinds=[NEAR])] == [three, two]
        assert [row.version.id for row in findings.listing(tx, REGISTRY, version_id=one)] == [three, two]
        assert findings.listing(tx, REGISTRY, kinds=[]) == []
        assert findings.listing(tx, "elsewhere") == []


def test_findings_about_deleted_versions_are_not_listed(database: Database) -> None:
    with database.transaction() as tx:
        one, two, three = _versions(tx, 3)
        _replace(tx, two, _near(two, one), Finding(WEAK, two))
        _replace(tx, three, _near(three, two))
        transitions.mark_ended(tx, one, state=State.DELETED, reason="")
        assert {(row.finding.kind, row.version.id) for row in findings.listing(tx, REGISTRY)} == {
            (WEAK, two),
            (NEAR, three),
        }
        transitions.mark_ended(tx, two, state=State.DELETED, reason="")
        assert findings.listing(tx, REGISTRY) == []


def _versions(tx: Transaction, count: int) -> list[int]:
    return [embedded(tx, f"m{number}", RIGHT) for number in range(count)]


def _near(newer: int, older: int) -> Finding:
    return Finding(NEAR, newer, older, measure=0.96, threshold=0.95)


def _drift(older: int, newer: int) -> Finding:
    return Finding(DRIFT, newer, older, measure=0.7, threshold=0.5)


def _replace(tx: Transaction, version_id: int, *found: Finding) -> None:
    findings.replace(tx, found, version_id=version_id, recipe_id=None, kinds=[NEAR, WEAK])


def _by_pair(tx: Transaction) -> dict[tuple[int, int | None], FindingRow]:
    rows = findings.listing(tx, REGISTRY)
    return {(row.finding.version_id, row.finding.other_id): row for row in rows if row.other}
