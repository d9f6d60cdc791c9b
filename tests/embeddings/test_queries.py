from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from deltadex.drift import queries as model_history
from deltadex.embeddings import queries as embeddings
from deltadex.store.database import Database
from deltadex.types import ModelVersionRef, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import REGISTRY, discovered, embedded, embedding

RIGHT, UP, DIAGONAL, LEFT = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [-1, 0, 0]], dtype=np.float32)
MODEL = ModelVersionRef(REGISTRY, "support", 1, 0)


def test_a_stored_embedding_comes_back_as_it_was(database: Database) -> None:
    vector = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    value = embedding(vector, base_norm=50.0)
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        recipe_id = embeddings.save(tx, version_id, value, base_name="acme/base", artifact_uri="runs:/x", is_weak=False)
    with database.transaction() as tx:
        [stored] = embeddings.of_version(tx, version_id)
        row = versions.get(tx, version_id)
    np.testing.assert_array_equal(stored.vector, value.vector)
    assert stored.vector.dtype == np.float32
    assert (stored.norm, stored.strength, stored.agreement) == (value.norm, value.strength, value.probe_agreement)
    assert (stored.recipe.id, stored.recipe.digest, stored.recipe.embedded) == (recipe_id, value.recipe.digest, 1)
    assert (stored.recipe.base_name, stored.recipe.dimension, stored.is_weak) == ("acme/base", 4096, False)
    assert (row.state, row.weights_digest, row.artifact_uri) == (State.EMBEDDED, "w1", "runs:/x")


def test_saving_again_ends_in_the_same_place(database: Database) -> None:
    value = embedding(RIGHT)
    with database.transaction() as tx:
        version_id = discovered(tx)
        first, again = (
            embeddings.save(tx, version_id, value, base_name=name, artifact_uri="u", is_weak=False) for name in "ab"
        )
        assert first == again
        assert [recipe.base_name for recipe in embeddings.recipes(tx, REGISTRY)] == ["a"]
        assert len(embeddings.of_version(tx, version_id)) == 1
        assert [step.state for step in versions.history(tx, version_id)] == [State.DISCOVERED, State.EMBEDDED]


def test_a_recipe_keeps_the_largest_noise_floor_that_was_measured(database: Database) -> None:
    with database.transaction() as tx:
        for number, floor in enumerate((None, 2e-6, 1e-6, None), start=1):
            value = replace(embedding(RIGHT), noise_floor=floor)
            version_id = discovered(tx, version=number)
            embeddings.save(tx, version_id, value, base_name="b", artifact_uri="u", is_weak=False)
        [recipe] = embeddings.recipes(tx, REGISTRY)
    assert recipe.noise_floor == 2e-6


def test_a_version_that_failed_before_has_no_reason_left(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.mark_ended(tx, version_id, state=State.FAILED, reason="r", hint="h")
        embeddings.save(tx, version_id, embedding(RIGHT), base_name="b", artifact_uri="u", is_weak=False)
        row = versions.get(tx, version_id)
    assert (row.state, row.reason, row.hint) == (State.EMBEDDED, "", "")


def test_a_deleted_version_stays_deleted(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.mark_ended(tx, version_id, state=State.DELETED, reason="gone")
        embeddings.save(tx, version_id, embedding(RIGHT), base_name="b", artifact_uri="u", is_weak=False)
        assert versions.get(tx, version_id).state is State.DELETED


def test_same_weights_finds_copies_whatever_their_name_and_base(database: Database) -> None:
    with database.transaction() as tx:
        original = embedded(tx, "original", RIGHT, weights="same")
        copy = embedded(tx, "copy", RIGHT, weights="same")
        rebased = embedded(tx, "rebased", UP, weights="same", base="other")
        gone = embedded(tx, "gone", RIGHT, weights="same")
        transitions.mark_ended(tx, gone, state=State.DELETED, reason="")
        embedded(tx, "elsewhere", RIGHT, weights="same", registry="other")
        embedded(tx, "another", RIGHT)
        waiting = [discovered(tx, "waiting", number) for number in (1, 2)]
        assert [row.id for row in embeddings.same_weights(tx, original)] == [copy, rebased]
        assert embeddings.same_weights(tx, waiting[0]) == []


@pytest.mark.parametrize("bases", [("base", "base"), ("base", "other")])
def test_of_two_copies_stored_at_once_the_second_sees_the_first(database: Database, bases: Sequence[str]) -> None:
    with database.transaction() as tx:
        ids = [discovered(tx, name) for name in ("one", "two")]
    seen: list[list[int]] = []
    saved = threading.Barrier(2)

    def store(version_id: int, base: str) -> None:
        with database.transaction() as tx:
            saved.wait()
            value = embedding(RIGHT, base=base)
            embeddings.lock(tx, [value])
            embeddings.save(tx, version_id, value, base_name=base, artifact_uri="u", is_weak=False)
            seen.append([row.id for row in embeddings.same_weights(tx, version_id)])

    threads = [threading.Thread(target=store, args=pair) for pair in zip(ids, bases, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, seen)) == [0, 1]


def test_a_table_holds_one_recipe_by_id(database: Database) -> None:
    with database.transaction() as tx:
        first, second = embedded(tx, "b", RIGHT * 2), embedded(tx, "a", UP)
        weak = embedded(tx, "weak", DIAGONAL, is_weak=True)
        elsewhere = embedded(tx, "elsewhere", LEFT, registry="other")
        embedded(tx, "other", RIGHT, base="other")
        gone = embedded(tx, "gone", RIGHT)
        transitions.mark_ended(tx, gone, state=State.DELETED, reason="")
        recipe_id = embeddings.of_version(tx, first)[0].recipe.id
        ours = embeddings.table(tx, recipe_id, registry=REGISTRY)
        everything = embeddings.table(tx, recipe_id, with_weak=True)
    assert [row.id for row in ours.rows] == [first, second]
    np.testing.assert_array_equal(ours.vectors, [RIGHT * 2, UP])
    assert [row.id for row in everything.rows] == [first, second, weak, elsewhere]
    assert ours.vectors.dtype == np.float32


def test_an_empty_table_keeps_its_dimension(database: Database) -> None:
    with database.transaction() as tx:
        version_id = embedded(tx, "weak", RIGHT, is_weak=True)
        table = embeddings.table(tx, embeddings.of_version(tx, version_id)[0].recipe.id)
    assert (table.rows, table.vectors.shape) == ((), (0, 3))


def test_recipes_are_counted_per_registry_the_largest_first(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "a", RIGHT, base="small")
        gone = embedded(tx, "gone", RIGHT, base="small")
        transitions.mark_ended(tx, gone, state=State.DELETED, reason="")
        for name in "bc":
            embedded(tx, name, RIGHT, base="large")
        embedded(tx, "elsewhere", RIGHT, base="small", registry="other")
        embedded(tx, "elsewhere", RIGHT, base="foreign", registry="other", version=2)
        counted = [(recipe.base_name, recipe.embedded) for recipe in embeddings.recipes(tx, REGISTRY)]
        assert embeddings.recipes(tx, "nowhere") == []
    assert counted == [("large", 2), ("small", 1)]


def test_a_model_comes_oldest_first_without_what_is_too_weak(database: Database) -> None:
    with database.transaction() as tx:
        third, first = (embedded(tx, "support", vector, version=n) for n, vector in ((3, UP), (1, RIGHT)))
        embedded(tx, "support", DIAGONAL, version=2, is_weak=True)
        embedded(tx, "support", np.ones(5), version=4)
        embedded(tx, "other", LEFT)
        recipe_id = embeddings.of_version(tx, first)[0].recipe.id
        history = model_history.history(tx, REGISTRY, "support")
    assert [row.id for row in history.versions[:2]] == [first, third]
    assert [row.registered.ref.version for row in history.too_weak] == [2]
    measured = [point[recipe_id] for point in history.points[:2]]
    np.testing.assert_array_equal([one.vector for one in measured], [RIGHT, UP])
    assert all(one.probes is not None and one.probes.shape == (5, 3) for one in measured)
    assert recipe_id not in history.points[2]


def test_probes_come_back_as_they_were_and_are_written_once(database: Database) -> None:
    deltas = np.random.default_rng(0).normal(scale=1e-3, size=(5, 3)).astype(np.float32)
    with database.transaction() as tx:
        version_id = discovered(tx)
        value = replace(embedding(RIGHT), probe_deltas=deltas, base_norm=4.0)
        for _ in range(2):
            embeddings.save(tx, version_id, value, base_name="base", artifact_uri="", is_weak=False)
        discovered(tx, version=2)
        embedded(tx, "support", UP, version=3)
        history = model_history.history(tx, REGISTRY, "support")
        [measured] = history.points[0].values()
        np.testing.assert_allclose(measured.probes, deltas / 4, rtol=2e-3)
        with pytest.raises(psycopg.errors.CheckViolation, match="refused"):
            tx.execute("update embeddings set probe_deltas = null")
