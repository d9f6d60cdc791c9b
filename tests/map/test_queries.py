"""Stored map coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.embeddings import queries as embeddings
from deltadex.map import queries as layouts
from deltadex.map.layout import lay_out, places
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from tests.stored import REGISTRY, embedded, embedding

SETTINGS = Settings(registry=REGISTRY)
ONE, TWO, THREE = np.eye(3)


def only_recipe(tx: Transaction) -> embeddings.RecipeRow:
    [recipe] = embeddings.recipes(tx, REGISTRY)
    return recipe


def read(database: Database) -> layouts.Layout:
    with database.transaction() as tx:
        return layouts.read(tx, only_recipe(tx).id, REGISTRY)


@pytest.fixture
def three(database: Database) -> list[int]:
    with database.transaction() as tx:
        return [embedded(tx, name, vector) for name, vector in (("one", ONE), ("two", TWO), ("three", THREE))]


def test_before_the_flow_ran_nothing_has_a_place_and_afterwards_everything(
    database: Database, three: list[int]
) -> None:
    assert not read(database).is_placed.any()
    assert lay_out(SETTINGS, database) == 1
    stored = read(database)
    assert stored.ids.tolist() == three
    assert stored.is_placed.all()
    assert np.allclose(stored.strengths, 0.1)
    assert lay_out(SETTINGS, database) == 0, "nothing is out of date"


def test_a_layout_is_a_new_revision(database: Database, three: list[int]) -> None:
    with database.transaction() as tx:
        before = revision(tx, REGISTRY)
    lay_out(SETTINGS, database)
    with database.transaction() as tx:
        assert revision(tx, REGISTRY) != before


def test_a_new_version_lies_near_what_it_resembles_until_the_next_layout(database: Database, three: list[int]) -> None:
    lay_out(SETTINGS, database)
    with database.transaction() as tx:
        embedded(tx, "four", ONE)
        recipe = only_recipe(tx)
        stored = layouts.read(tx, recipe.id, REGISTRY)
        assert stored.is_placed.tolist() == [True, True, True, False]
        found = places(tx, REGISTRY, recipe, stored)
    assert np.isfinite(found).all()
    assert np.array_equal(found[:3], stored.coordinates[:3])
    assert lay_out(SETTINGS, database) == 1
    assert read(database).is_placed.all()


def test_another_embedding_of_a_version_has_no_place_yet(database: Database, three: list[int]) -> None:
    lay_out(SETTINGS, database)
    with database.transaction() as tx:
        value = embedding(TWO, weights="others")
        embeddings.save(tx, three[0], value, base_name="base", artifact_uri="runs:/abc/one", is_weak=False)
    assert read(database).is_placed.tolist() == [False, True, True]


def test_the_latest_stored_clustering_is_read_with_it(database: Database, three: list[int]) -> None:
    with database.transaction() as tx:
        recipe = only_recipe(tx)
        for number, (label, version_id) in enumerate((("sql", three[1]), ("legal", three[0]))):
            row = tx.execute(
                "insert into clusters (recipe_id, registry, number, label) values (%s, %s, %s, %s) returning id",
                [recipe.id, REGISTRY, number, label],
            ).fetchone()
            tx.execute("insert into cluster_assignments values (%s, %s, %s, 0.9)", [recipe.id, version_id, row[0]])
    stored = read(database)
    assert [cluster.name for cluster in stored.clusters] == ["sql", "legal"]
    assert stored.labels.tolist() == [1, 0, layouts.ALONE]
