"""Recomputed near duplicates equal those on arrival, after changes and crashes too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deltadex.duplicates.queries import Replaced
from deltadex.embeddings import queries as embeddings
from deltadex.errors import StoreError
from deltadex.findings import queries as findings
from deltadex.findings.thresholds import calibration_for_arrivals, calibration_of, stored_calibration
from deltadex.ingest.recompute_duplicates import recompute_near_duplicates
from deltadex.ingest.round import recompute_recipe
from deltadex.search import neighbors as search
from deltadex.setting_groups import DatabaseSettings, ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, Provenance, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import REGISTRY, discovered, embedded, embedding
from tests.synthetic import families

RIGHT, ALMOST, UP = np.array([1.0, 0, 0]), np.array([1.0, 0.1, 0]), np.array([0, 0, 1.0])
NEAR = FindingKind.NEAR_DUPLICATE


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, registry=REGISTRY, database=DatabaseSettings(url=database.url))


def recompute(settings: Settings, database: Database, **report: Callable[[str, int, int], None]) -> Replaced:
    with database.transaction() as tx:
        [recipe] = [recipe for recipe in embeddings.recipes(tx, REGISTRY) if recipe.base_name == "base"]
    return recompute_near_duplicates(settings, database, recipe, report.get("report", lambda what, done, of: None))


def pairs(database: Database) -> set[tuple[int, int]]:
    with database.transaction() as tx:
        found = findings.listing(tx, REGISTRY, kinds=[NEAR])
    return {(row.finding.other_id, row.finding.version_id) for row in found if row.finding.other_id is not None}


def delete(tx: Transaction, version_id: int) -> None:
    transitions.mark_ended(tx, version_id, state=State.DELETED, reason="", hint="")


def embed_again(tx: Transaction, version_id: int, vector: np.ndarray) -> None:
    value = embedding(vector, weights=f"again/{version_id}")
    embeddings.save(tx, version_id, value, base_name="base", artifact_uri="runs:/abc/again", is_weak=False)


def test_it_finds_what_arrivals_find_and_nothing_else(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        one, two = embedded(tx, "one", RIGHT), embedded(tx, "two", ALMOST)
        copy = embedded(tx, "copy", RIGHT, weights="one/1")
        embedded(tx, "up", UP)
        embedded(tx, "weak", RIGHT, is_weak=True)
        embedded(tx, "zero", UP * 0)
        embedded(tx, "elsewhere", RIGHT, registry="other")
        embedded(tx, "other base", RIGHT, base="other")
        delete(tx, embedded(tx, "deleted", RIGHT))
    assert recompute(settings, database) == Replaced(versions=4, pairs=2, changed=2, removed=0)
    # Registered in the same moment: the name decides which is the older one.
    assert pairs(database) == {(one, two), (copy, two)}
    with database.transaction() as tx:
        similarity = search.neighbors(tx, one, k=2).neighbors[1].similarity
        row = findings.listing(tx, REGISTRY, version_id=one)[0]
    assert (row.finding.measure, row.finding.threshold) == (pytest.approx(similarity, abs=1e-6), 0.95)


def test_a_round_groups_by_the_thresholds_by_which_it_compares(settings: Settings, database: Database) -> None:
    thresholds = settings.thresholds
    with database.transaction() as tx:
        embedded(tx, "early", RIGHT)
        [recipe] = embeddings.recipes(tx, REGISTRY)
        early = calibration_for_arrivals(tx, recipe.id, REGISTRY, thresholds=thresholds)
        for number, row in enumerate(families([3] * 5, dimension=3, spread=0.05)):
            version_id, value = discovered(tx, f"model-{number}"), embedding(row, weights=str(number))
            data = Provenance(1, f"data {number // 3}")
            embeddings.save(tx, version_id, value, base_name="base", artifact_uri="", is_weak=False, provenance=data)
    recompute_recipe(database, settings, recipe)
    with database.transaction() as tx:
        now = calibration_of(tx, recipe.id, REGISTRY, thresholds=thresholds)
        assert stored_calibration(tx, recipe.id, REGISTRY, thresholds=thresholds) == now != early
        groups = findings.listing(tx, REGISTRY, kinds=[NEAR])
    assert {row.finding.threshold for row in groups} == {now.near_similarity.value}


def test_doing_it_again_changes_nothing_and_leaves_nothing_behind(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", RIGHT), embedded(tx, "two", ALMOST)
    recompute(settings, database)
    with database.transaction() as tx:
        before = findings.listing(tx, REGISTRY)
    assert recompute(settings, database) == Replaced(versions=2, pairs=1, changed=0, removed=0)
    with database.transaction() as tx:
        assert findings.listing(tx, REGISTRY) == before
    assert [path.suffix for path in settings.data_dir.glob("near-duplicates/*")] == [".lock"]


def test_another_threshold_takes_findings_away_and_brings_them_back(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", RIGHT), embedded(tx, "two", ALMOST)
    recompute(settings, database)
    stricter = settings.model_copy(update={"thresholds": ThresholdSettings(near_duplicate_similarity=0.999)})
    assert recompute(stricter, database) == Replaced(versions=2, pairs=0, changed=0, removed=1)
    assert recompute(settings, database).changed == 1


def test_a_round_takes_away_what_a_moved_threshold_no_longer_finds(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        one, two = embedded(tx, "one", RIGHT), embedded(tx, "two", ALMOST)
        [recipe] = embeddings.recipes(tx, REGISTRY)
        embedded(tx, "three", UP)
    recompute_recipe(database, settings, recipe)
    assert pairs(database) == {(one, two)}
    stricter = settings.model_copy(update={"thresholds": ThresholdSettings(near_duplicate_similarity=0.999)})
    recompute_recipe(database, stricter, recipe)
    assert pairs(database) == set()


def test_an_empty_recipe_has_none(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "weak", RIGHT, is_weak=True)
    assert recompute(settings, database) == Replaced(versions=0, pairs=0, changed=0, removed=0)


def test_what_arrives_changes_or_goes_meanwhile_is_left_alone(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        one, two, three, four = (embedded(tx, name, RIGHT) for name in ("one", "two", "three", "four"))

    def meanwhile(what: str, done: int, of: int) -> None:
        if what != "comparing" or done < of:
            return
        with database.transaction() as tx:
            later = embedded(tx, "later", RIGHT)
            [recipe] = embeddings.recipes(tx, REGISTRY)
            found = Finding(NEAR, later, one, measure=1.0, threshold=0.95)
            findings.replace(tx, [found], version_id=later, recipe_id=recipe.id, kinds=[NEAR])
            embed_again(tx, two, UP)
            delete(tx, three)

    replaced = recompute(settings, database, report=meanwhile)
    assert replaced == Replaced(versions=2, pairs=1, changed=1, removed=0)
    with database.transaction() as tx:
        later = max(row.id for row in versions.listing(tx, REGISTRY))
    assert pairs(database) == {(four, one), (one, later)}


def test_two_at_the_same_time_are_refused(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", RIGHT)

    def again(what: str, done: int, of: int) -> None:
        with pytest.raises(StoreError, match="Another process"):
            recompute(settings, database)

    recompute(settings, database, report=again)


def test_killed_at_any_point_it_ends_the_same(settings: Settings, database: Database) -> None:
    rows = families([30, 20, 10], dimension=24, spread=0.18)
    with database.transaction() as tx:
        for number, row in enumerate(rows):
            embedded(tx, f"model-{number}", row)
    variables = {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(settings.data_dir),
    }
    for place in ("reading", "comparing", "storing"):
        command = [sys.executable, "-c", _DIES, place]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        assert pairs(database) == set()
    replaced = recompute(settings, database)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units, ratios = rows / norms, norms / norms.T
    is_as_long = np.minimum(ratios, ratios.T) >= settings.thresholds.near_duplicate_norm_ratio
    expected = int(np.triu((units @ units.T >= 0.95) & is_as_long, k=1).sum())
    assert (len(pairs(database)), replaced.pairs, replaced.changed) == (expected, expected, expected)
    assert expected > 100


#: Recomputes near duplicates, and dies once it comes to the place named by its argument.
_DIES = """
import os, signal, sys
from deltadex.duplicates import queries as near_duplicates
from deltadex.embeddings import queries as embeddings
from deltadex.ingest import recompute_duplicates
from deltadex.settings import load_settings
from deltadex.store.database import Database

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def report(what, done, of):
    if what == sys.argv[1] and done:
        die()

if sys.argv[1] == "storing":
    near_duplicates.Replaced = die
settings = load_settings()
with Database(settings.database_url) as database:
    with database.transaction() as tx:
        [recipe] = embeddings.recipes(tx, settings.registry)
    recompute_duplicates.recompute_near_duplicates(settings, database, recipe, report)
"""
