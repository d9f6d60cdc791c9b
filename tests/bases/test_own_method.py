"""The registry's own method: what changing it does to versions, embeddings and findings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.bases.own_method import own_method, set_own_method, start_others_over, versions_by_method
from deltadex.embeddings import queries as embeddings
from deltadex.engine.probes import CONTENT, METHODS
from deltadex.errors import AccessDenied
from deltadex.findings import queries as findings
from deltadex.ingest import record
from deltadex.ingest.record import Embedded, find
from deltadex.setting_groups import ThresholdSettings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, Queue, State
from deltadex.versions import queries as versions
from tests import stored
from tests.stored import ADMIN, REGISTRY


def by_content(tx: Transaction, version_id: int, vector: list[float], *, weights: str = "") -> int:
    """Store an embedding by content as a flow run does, and return its recipe's id."""
    one = stored.embedding(np.array(vector))
    one = replace(one, recipe=replace(one.recipe, method=CONTENT), weights_digest=weights or f"w{version_id}")
    embedded = Embedded(versions.get(tx, version_id), one, "base", "runs:/a/b")
    record._store_one(tx, embedded, thresholds=ThresholdSettings())
    return embeddings.of_version(tx, version_id)[0].recipe.id


def test_a_new_registry_is_embedded_by_content(database: Database) -> None:
    assert database.run(lambda tx: own_method(tx, REGISTRY)) == "content"
    assert set(METHODS) == {"content", "published"}


def test_only_an_administrator_changes_it(database: Database) -> None:
    with pytest.raises(AccessDenied):
        database.run(lambda tx: set_own_method(tx, Person("vic", Role.VIEWER), REGISTRY, "published"))
    database.run(lambda tx: set_own_method(tx, ADMIN, REGISTRY, "published"))
    assert database.run(lambda tx: own_method(tx, REGISTRY)) == "published"


def test_versions_of_another_method_go_into_the_backfill_once(database: Database) -> None:
    with database.transaction() as tx:
        old = stored.embedded(tx, "old", np.array([1.0, 2.0]))
        new = stored.discovered(tx, "new")
        by_content(tx, new, [1.0, 0.0])
        waiting = stored.discovered(tx, "waiting")
        assert versions_by_method(tx, REGISTRY) == {"content": 1, "published": 1}
        assert start_others_over(tx, REGISTRY) == 1
        assert start_others_over(tx, REGISTRY) == 0
        row = versions.get(tx, old)
        assert (row.state, row.queue, row.attempt) == (State.DISCOVERED, Queue.BACKFILL, 2)
        assert "content" in row.reason
        assert [versions.get(tx, one).state for one in (new, waiting)] == [State.EMBEDDED, State.DISCOVERED]
        assert [one.embedded for one in embeddings.recipes(tx, REGISTRY)] == [1, 1]  # both are shown meanwhile


def test_an_embedding_by_the_new_method_takes_the_place_of_the_old_one_and_its_findings(database: Database) -> None:
    thresholds = ThresholdSettings()
    with database.transaction() as tx:
        first = stored.embedded(tx, "first", np.array([3.0, 4.0]), weights="same")
        second = stored.embedded(tx, "second", np.array([3.0, 4.0]), weights="same")
        [old] = embeddings.recipes(tx, REGISTRY)
        find(tx, versions.get(tx, second), old.id, thresholds=thresholds)
        [same_weights] = findings.listing(tx, REGISTRY)
        task = Finding(FindingKind.SAME_TASK, second, first, 0.9, 0.8)
        findings.replace(tx, [task], version_id=second, recipe_id=old.id, kinds=[FindingKind.SAME_TASK])
        new = by_content(tx, first, [1.0, 0.0], weights="same")
        # The weights are the same as before; the rest was measured, and nothing is compared across methods.
        assert [one.id for one in findings.listing(tx, REGISTRY)] == [same_weights.id]
        assert [one.recipe.id for one in embeddings.of_version(tx, first)] == [new]
        assert [row.id for row in embeddings.table(tx, old.id).rows] == [second]
        assert versions_by_method(tx, REGISTRY) == {"content": 1, "published": 1}
        by_content(tx, second, [1.0, 0.0], weights="same")
        assert [one.id for one in embeddings.recipes(tx, REGISTRY)] == [new]


def test_going_back_makes_the_kept_embedding_current_again(database: Database) -> None:
    with database.transaction() as tx:
        one = stored.embedded(tx, "one", np.array([3.0, 4.0]), weights="w")
        old = embeddings.of_version(tx, one)[0]
        by_content(tx, one, [1.0, 0.0])
        set_own_method(tx, ADMIN, REGISTRY, "published")
        assert start_others_over(tx, REGISTRY) == 1
        again = stored.embedding(np.array([3.0, 4.0]), weights="w")
        embeddings.supersede_other_methods(tx, one, again)
        embeddings.save(tx, one, again, base_name="base", artifact_uri="runs:/a/b", is_weak=False)
        [current] = embeddings.of_version(tx, one)
        assert (current.recipe.id, current.created_at) == (old.recipe.id, old.created_at)
