"""Drift of registered models on a real store."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import HIDDEN, Person, Role
from deltadex.clusters.runs import recluster
from deltadex.drift import model_drift as visible_drift
from deltadex.drift.line import Break, Change
from deltadex.drift.model_drift import ModelDrift, judge_model, model_drift, read_model
from deltadex.drift.queries import Line, lines
from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.findings.thresholds import calibration_of
from deltadex.ingest.round import judge_drifts, judge_relabelled
from deltadex.setting_groups import DatabaseSettings, ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind, Word, Words
from deltadex.versions import record_queries, transitions
from tests.stored import ADMIN, REGISTRY, embedded, registered

SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])
THRESHOLDS = ThresholdSettings()


def drift_of(tx: Transaction, name: str) -> ModelDrift:
    found = model_drift(tx, ADMIN, REGISTRY, name, thresholds=THRESHOLDS)
    assert found is not None
    return found


def judge(tx: Transaction, name: str) -> list[int]:
    """Keep the drift findings of a model; return the versions that they concern."""
    model = read_model(tx, registered(name).ref, thresholds=THRESHOLDS)
    found = judge_model(model)
    for recipe_id, drifts in found.items():
        findings.replace_drift(tx, drifts, ref=model.ref, recipe_id=recipe_id)
    return [each for drifts in found.values() for one in drifts for each in (one.version_id, one.other_id) if each]


def test_drift_follows_the_registration_whatever_the_order_of_embedding(database: Database) -> None:
    with database.transaction() as tx:
        for version, vector in ((3, LEGAL), (1, SQL), (2, SQL)):
            embedded(tx, "one", vector, version=version, aliases=("champion",) if version == 2 else ())
            judge(tx, "one")
        embedded(tx, "two", SQL)
        drifted = drift_of(tx, "one")
        assert model_drift(tx, ADMIN, REGISTRY, "two", thresholds=THRESHOLDS) is None
        [line] = lines(tx, REGISTRY)
        [found] = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
    assert line == Line(
        "one", "base", 3, compared=2, broken=0, largest_step=pytest.approx(drifted.largest_step), changes=1
    )
    assert [row.registered.ref.version for row in drifted.versions] == [1, 2, 3]
    assert [step.change for step in drifted.steps] == [None, Change.JUMP]
    assert drifted.largest_step > 0.9
    assert drifted.alias == "champion"
    assert drifted.steps[1].alias is not None
    assert drifted.steps[1].alias.distance == pytest.approx(drifted.largest_step)
    assert (found.version.label, found.other and found.other.label) == ("one/3", "one/2")
    assert found.finding.evidence["probe_distances"] == pytest.approx([found.finding.measure] * 5, abs=1e-3)


def test_another_base_is_a_break_and_a_weak_version_is_passed_over(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", SQL, version=1)
        embedded(tx, "one", LEGAL, version=2, is_weak=True)
        embedded(tx, "one", SQL, version=3)
        embedded(tx, "one", LEGAL, version=4, base="another")
        drifted = drift_of(tx, "one")
        assert judge(tx, "one") == []
        [line] = lines(tx, REGISTRY)
    assert (line.versions, line.compared, line.broken, line.base_name) == (3, 1, 1, "base")
    assert [row.registered.ref.version for row in drifted.too_weak] == [2]
    assert [(step.broken, step.change) for step in drifted.steps] == [(None, None), (Break.BASE, None)]
    assert drifted.alias is None


def test_a_version_in_between_takes_a_drift_back(database: Database) -> None:
    halfway = SQL + LEGAL
    with database.transaction() as tx:
        for version, vector in ((1, SQL), (3, LEGAL)):
            last = embedded(tx, "one", vector, version=version)
        assert judge(tx, "one").count(last) == 1
        embedded(tx, "one", halfway, version=2)
        judge(tx, "one")
        [found] = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
    assert (found.version.id, found.finding.evidence["change"]) == (last, "creep")
    assert (found.other and found.other.label) == "one/1"


def test_a_drift_tells_which_stored_clusters_it_left_and_came_to(database: Database) -> None:
    with database.transaction() as tx:
        ids = [embedded(tx, "one", vector, version=version) for version, vector in ((1, SQL), (2, LEGAL))]
        [recipe] = embeddings.recipes(tx, REGISTRY)
        before = drift_of(tx, "one")
        for number, (version_id, label) in enumerate(zip(ids, ("sql", ""), strict=True)):
            tx.execute(
                "with made as (insert into clusters (recipe_id, registry, number, label, centre)"
                " values (%(recipe)s, %(registry)s, %(number)s, %(label)s, '[0, 0, 0, 0]') returning id)"
                " insert into cluster_assignments (recipe_id, model_version_id, cluster_id, strength)"
                " select %(recipe)s, %(version)s, id, 1 from made",
                {"recipe": recipe.id, "registry": REGISTRY, "number": number, "label": label, "version": version_id},
            )
        drifted = drift_of(tx, "one")
    assert before.directions[0].clusters == ""
    assert drifted.directions[0].clusters == "from sql to cluster 2"


def test_a_version_in_no_cluster_is_said_to_be_nearest_to_one(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", SQL)
        for name, vector in (("queries", SQL), ("reports", SQL), ("contracts", LEGAL), ("terms", LEGAL)):
            embedded(tx, name, vector + 0.01, tags={"domain": "sql" if vector is SQL else "legal"})
        [recipe] = embeddings.recipes(tx, REGISTRY)
    recluster(database, Settings(registry=REGISTRY), recipe)
    with database.transaction() as tx:
        embedded(tx, "one", LEGAL, version=2)
        drifted = drift_of(tx, "one")
    cluster_before, cluster_after = drifted.directions[0].cluster_before, drifted.directions[0].cluster_after
    assert cluster_before is not None
    assert cluster_after is not None
    assert (cluster_before.cluster.name, cluster_before.is_member) == ("sql", True)
    assert (cluster_after.cluster.name, cluster_after.is_member) == ("legal", False)
    assert cluster_after.similarity > 0.9
    assert drifted.directions[0].clusters == "from sql to nearest legal (1.00)"


def test_a_drift_says_which_words_rose_and_fell_where_both_versions_have_some(database: Database) -> None:
    ends = (Word("the", -3.0),)
    with database.transaction() as tx:
        embedded(tx, "one", SQL, words=Words((Word("SELECT", 4.0), Word("a", 2.0)), ends))
        embedded(tx, "one", LEGAL, version=2, words=Words((Word("whereas", 5.0), Word("a", 2.0)), ends))
        judge(tx, "one")
        embedded(tx, "other", SQL)
        embedded(tx, "other", LEGAL, version=2)
        said = drift_of(tx, "one")
        silent = drift_of(tx, "other")
        [found] = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
    assert said.directions[0].words == Words((Word("whereas", 3.0),), (Word("SELECT", -2.0),))
    assert found.finding.evidence["promotes_more"] == "whereas"
    assert found.finding.evidence["demotes_more"] == "SELECT"
    assert silent.directions[0].words is None


def test_a_threshold_that_becomes_known_takes_the_findings_with_it(database: Database) -> None:
    def turned(by: float) -> np.ndarray:
        return np.array([np.cos(by), np.sin(by), 0, 0])

    settings = Settings(registry=REGISTRY, database=DatabaseSettings(url=database.url))
    with database.transaction() as tx:
        for version, angle in ((1, 0.0), (2, 0.6)):
            embedded(tx, "moved", turned(angle), version=version)
        assert judge(tx, "moved") == []  # .17 is less than the setting, .5
        for number in range(9):
            for version in (1, 2):
                embedded(tx, f"steady-{number}", turned(1 + 0.1 * version), version=version)
        embedded(tx, "steady-0", turned(1.2), version=3, weights="steady-0/2")  # the same weights again are no step
        [recipe] = embeddings.recipes(tx, REGISTRY)
        calibration = calibration_of(tx, recipe.id, REGISTRY, thresholds=THRESHOLDS)
    assert calibration.drift.pairs == 10
    assert calibration.step_distance == pytest.approx(1 - np.cos(0.1), abs=1e-6)
    assert calibration.drift.value == pytest.approx(5 * (1 - np.cos(0.1)), abs=1e-3)
    judge_drifts(database, settings, recipe)
    with database.transaction() as tx:
        [found] = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
        assert drift_of(tx, "moved").limit == calibration.drift.value
    assert found.version.label == "moved/2"
    assert found.finding.threshold == calibration.drift.value
    assert found.finding.evidence["moved"] == "35 times what a new version usually moves a model"


def test_a_drift_says_what_differs_between_the_trainings_of_both_versions(database: Database) -> None:
    with database.transaction() as tx:
        older = embedded(tx, "one", SQL, tags={"domain": "sql"})
        newer = embedded(tx, "one", LEGAL, version=2, tags={"domain": "legal"})
        record_queries.save(tx, newer, {"data": {"dataset": "legal-2"}})
        judge(tx, "one")
        [found] = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
        assert found.finding.evidence["differs"] == "tag domain: sql → legal", "one record says nothing of a difference"
        record_queries.save(tx, older, {"data": {"dataset": "sql-1"}})
        judge(tx, "one")
        [found] = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
        assert found.finding.evidence["differs"] == "dataset: sql-1 → legal-2; tag domain: sql → legal"
        assert list(map(str, drift_of(tx, "one").directions[0].differences)) == [
            "dataset: sql-1 → legal-2",
            "tag domain: sql → legal",
        ]


def test_a_version_that_is_back_closes_the_drift_unless_an_alias_points_at_it(database: Database) -> None:
    with database.transaction() as tx:
        for name, aliases in (("one", ()), ("used", ("champion",))):
            for version, vector in enumerate((SQL, LEGAL, SQL), start=1):
                embedded(tx, name, vector, version=version, aliases=aliases if version == 2 else ())
                judge(tx, name)
        found = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
        assert [one.version.label for one in found] == ["used/2"]
        drifted = drift_of(tx, "one")
        assert [step.back_to for step in drifted.steps] == [None, 0]
        assert (drifted.changes, drift_of(tx, "used").changes) == (0, 1)
        assert drifted.directions.keys() == {0}


def test_a_drift_that_closed_opens_again_when_an_alias_moves_to_where_it_led(database: Database) -> None:
    settings = Settings(registry=REGISTRY)
    with database.transaction() as tx:
        for version, vector in enumerate((SQL, LEGAL, SQL), start=1):
            embedded(tx, "one", vector, version=version)
    for aliases, expected in (((), []), (("champion",), ["one/2"]), ((), [])):
        with database.transaction() as tx:
            transitions.discover(
                tx, [registered("one", 2, source="runs:/abc/one-2", aliases=aliases)], fresh_since_ms=0
            )
        judge_relabelled(database, settings)
        with database.transaction() as tx:
            found = findings.listing(tx, REGISTRY, kinds=[FindingKind.DRIFT])
        assert [one.version.label for one in found] == expected


def test_the_order_of_masked_models_does_not_tell_how_their_names_are_sorted(database: Database) -> None:
    with database.transaction() as tx:
        for name, count in (("aaa", 3), ("zzz", 2)):
            for version in range(count):
                embedded(tx, name, SQL, version=version + 1)
        seen = visible_drift.lines(tx, Person("eve", Role.VIEWER, ("sql-*",)), REGISTRY)
    assert [(one.name, one.versions) for one in seen] == [(HIDDEN, 2), (HIDDEN, 3)]
