"""Neighbours compared with brute force: with conditions, in batches, and with an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.codes import CODE_SIZE, codes_of
from deltadex.search import indexes
from deltadex.search import neighbors as search
from deltadex.search.filters import Conditions
from deltadex.search.neighbors import Route
from deltadex.search.query_vector import Questions, mixture
from deltadex.store.database import Database, Transaction
from deltadex.types import State
from deltadex.versions import transitions
from tests.stored import HOUR_MS, REGISTRY, discovered, embedded, embedding, registered

RIGHT, UP, DIAGONAL, LEFT = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [-1, 0, 0]], dtype=np.float32)


def test_neighbors_come_closest_first(database: Database) -> None:
    with database.transaction() as tx:
        right, up, diagonal, left = (
            embedded(tx, name, vector * 3) for name, vector in zip("abcd", (RIGHT, UP, DIAGONAL, LEFT), strict=True)
        )
        found = search.neighbors(tx, right).neighbors
        assert [neighbor.version.id for neighbor in found] == [diagonal, up, left]
        assert [neighbor.similarity for neighbor in found] == pytest.approx([0.5**0.5, 0, -1])
        assert [neighbor.version.id for neighbor in search.neighbors(tx, right, k=1).neighbors] == [diagonal]
        close = search.neighbors(tx, right, min_similarity=0.5).neighbors
        assert [neighbor.version.label for neighbor in close] == ["c/1"]


def test_what_may_not_be_compared_is_no_neighbor(database: Database) -> None:
    with database.transaction() as tx:
        here = embedded(tx, "here", RIGHT)
        embedded(tx, "other recipe", RIGHT, base="other")
        embedded(tx, "other dimension", np.ones(7))
        embedded(tx, "other registry", RIGHT, registry="other")
        embedded(tx, "zero", RIGHT * 0)
        weak = embedded(tx, "weak", RIGHT, is_weak=True)
        deleted = embedded(tx, "deleted", RIGHT)
        transitions.mark_ended(tx, deleted, state=State.DELETED, reason="")
        waiting = discovered(tx, "waiting")
        assert search.neighbors(tx, here).neighbors == ()
        assert search.neighbors(tx, weak).neighbors == ()
        assert search.neighbors(tx, waiting).neighbors == ()


def test_neighbors_are_those_of_the_latest_recipe(database: Database) -> None:
    with database.transaction() as tx:
        moved = embedded(tx, "moved", RIGHT, base="old")
        embedded(tx, "left behind", RIGHT, base="old")
        there = embedded(tx, "there", RIGHT, base="new")
    with database.transaction() as tx:
        embeddings.save(tx, moved, embedding(RIGHT, base="new"), base_name="new", artifact_uri="u", is_weak=False)
        assert [neighbor.version.id for neighbor in search.neighbors(tx, moved).neighbors] == [there]
        assert [stored.recipe.base_name for stored in embeddings.of_version(tx, moved)] == ["new", "old"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(vectors=arrays(np.float32, st.tuples(st.integers(2, 8), st.integers(1, 5)), elements=st.integers(-9, 9)))
def test_neighbors_are_ranked_as_numpy_ranks_them(database: Database, vectors: NDArray[np.float32]) -> None:
    with database.transaction() as tx:
        ids = [embedded(tx, f"m{number}", vector) for number, vector in enumerate(vectors)]
        found = search.neighbors(tx, ids[0], k=100).neighbors
        tx.rollback()
    norms = np.linalg.norm(vectors, axis=1)
    comparable = [place for place in range(1, len(ids)) if norms[place] and norms[0]]
    expected = {ids[place]: vectors[place] @ vectors[0] / norms[place] / norms[0] for place in comparable}
    assert {neighbor.version.id: neighbor.similarity for neighbor in found} == pytest.approx(expected, abs=1e-6)
    similarities = [neighbor.similarity for neighbor in found]
    assert similarities == sorted(similarities, reverse=True)


def filled(tx: Transaction, vectors: NDArray[np.float32], *, tags: Mapping[str, str] | None = None) -> int:
    """Store many versions at once and return the first one's id; every tenth is tagged."""
    first = embedded(tx, "first", vectors[0])
    recipe_id = embeddings.of_version(tx, first)[0].recipe.id
    numbers = range(1, len(vectors))
    ids = transitions.discover(
        tx,
        [registered("m", number, tags=tags if tags and number % 10 == 0 else {}) for number in numbers],
        fresh_since_ms=0,
    )
    with tx.cursor() as cursor:
        cursor.executemany(
            "insert into embeddings values (%s, %s, %b, 1, 1, 1, false, %s)",
            [(ids[number - 1], recipe_id, Vector(vectors[number]), str(number)) for number in numbers],
        )
        cursor.executemany(
            "insert into codes values (%s, %s, 'acme', %b)",
            [(recipe_id, *row) for row in zip(ids, map(HalfVector, codes_of(vectors[1:])), strict=True)],
        )
    return first


def nested(count: int, dimension: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return families of about 20 vectors; a third of each vector is its own."""
    random = np.random.default_rng(seed)
    families = random.standard_normal((count // 20 + 1, dimension))
    own = random.standard_normal((count, dimension))
    return (families[random.integers(len(families), size=count)] + 0.7 * own).astype(np.float32)


def similarities_to_first(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.sort((units[1:] @ units[0]).astype(np.float64))[::-1]


@pytest.mark.parametrize("dimension", [300, 1536])
def test_the_answer_is_that_of_comparing_everything_and_says_so(database: Database, dimension: int) -> None:
    vectors = nested(600, dimension)
    with database.transaction() as tx:
        found = search.neighbors(tx, filled(tx, vectors))
    similarities = [one.similarity for one in found.neighbors]
    np.testing.assert_allclose(similarities, similarities_to_first(vectors)[:10], atol=1e-5)
    assert found.is_exact
    assert found.plan is not None
    assert found.plan.route is Route.SCAN
    assert found.plan.compared < found.plan.candidates < 600


def test_what_candidates_can_not_prove_is_proved_by_comparing_more(database: Database) -> None:
    """Codes can't rank more near equals than there are candidates."""
    random = np.random.default_rng(0)
    vectors = (random.standard_normal(600) + 0.3 * random.standard_normal((1500, 600))).astype(np.float32)
    with database.transaction() as tx:
        found = search.neighbors(tx, filled(tx, vectors))
    similarities = [one.similarity for one in found.neighbors]
    np.testing.assert_allclose(similarities, similarities_to_first(vectors)[:10], atol=1e-5)
    assert found.is_exact
    assert found.plan is not None
    assert found.plan.candidates == 1500


def test_all_that_are_similar_enough_are_found_however_many(database: Database) -> None:
    random = np.random.default_rng(0)
    vectors = (random.standard_normal(600) + 0.227 * random.standard_normal((1500, 600))).astype(np.float32)
    expected = similarities_to_first(vectors)
    assert 1000 < np.sum(expected >= 0.95) < 1400
    with database.transaction() as tx:
        found = search.neighbors(tx, filled(tx, vectors), k=None, min_similarity=0.95)
    assert len(found.neighbors) == pytest.approx(np.sum(expected >= 0.95), abs=1)
    assert found.is_exact


def test_many_questions_get_the_answers_that_each_gets_alone(database: Database) -> None:
    vectors = nested(200, 700)
    with database.transaction() as tx:
        filled(tx, vectors)
        questions = Questions(embeddings.recipes(tx, REGISTRY)[0].id, REGISTRY, vectors[:50])
        together = search.answer(tx, questions, k=3)
        alone = [search.answer(tx, replace(questions, vectors=vectors[[row]]), k=3) for row in range(50)]
    assert [[found] for found in together] == alone
    assert {len(found.neighbors) for found in together} == {3}
    assert together[0].neighbors[0].similarity == pytest.approx(1)


def test_a_mixture_is_near_what_was_trained_on_both(database: Database) -> None:
    with database.transaction() as tx:
        right, up, both, _ = (
            embedded(tx, name, vector) for name, vector in zip("abcd", (RIGHT, UP, DIAGONAL, LEFT), strict=True)
        )
        alone = embedded(tx, "alone", RIGHT, base="other")
        questions = mixture(tx, {right: 1, up: 1})
        assert questions is not None
        [found] = search.answer(tx, questions, k=1)
        assert [(one.version.id, one.similarity) for one in found.neighbors] == [(both, pytest.approx(1))]
        assert mixture(tx, {right: 1, alone: 1}) is None
        assert mixture(tx, {right: 1, up: 0, both: 0}) is not None
        assert mixture(tx, {right: 0}) is None


HOUR = timedelta(milliseconds=HOUR_MS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (Conditions(), {"a/2", "b/3", "c/4"}),
        (Conditions(name="a"), {"a/2"}),
        (Conditions(alias="champion"), {"b/3"}),
        (Conditions(tags={"team": "search"}), {"a/2", "b/3"}),
        (Conditions(tags={"team": "search", "stage": "live"}), {"b/3"}),
        (Conditions(states=frozenset({State.DISCOVERED})), {"c/4"}),
        (Conditions(created_from=EPOCH + 3 * HOUR), {"b/3", "c/4"}),
        (Conditions(created_before=EPOCH + 3 * HOUR), {"a/2"}),
        (Conditions(clusters=frozenset({1})), {"b/3", "c/4"}),
        (Conditions(clusters=frozenset({1}), alias="champion"), {"b/3"}),
        (Conditions(clusters=frozenset()), set()),
        (Conditions(name="a", alias="champion"), set()),
    ],
)
def test_conditions_leave_only_what_meets_them_all(
    database: Database, conditions: Conditions, expected: set[str]
) -> None:
    with database.transaction() as tx:
        here = embedded(tx, "here", RIGHT)
        embedded(tx, "a", UP, version=2, tags={"team": "search"})
        embedded(tx, "b", UP, version=3, tags={"team": "search", "stage": "live"}, aliases=("champion",))
        again = embedded(tx, "c", UP, version=4)
        transitions.requeue(tx, again, reason="by hand")
        tx.execute("insert into clusters (recipe_id, registry, number, label) values (1, 'acme', 0, 'sql')")
        tx.execute(
            "insert into cluster_assignments select 1, model_versions.id, clusters.id, 1 from model_versions, clusters "
            "where name in ('b', 'c')"
        )
        found = search.neighbors(tx, here, conditions=conditions)
    assert {one.version.label for one in found.neighbors} == expected


def test_the_base_chooses_the_recipe(database: Database) -> None:
    with database.transaction() as tx:
        here = embedded(tx, "here", RIGHT, base="old")
        old, new = (embedded(tx, base, RIGHT, base=base) for base in ("old", "new"))
    with database.transaction() as tx:
        embeddings.save(tx, here, embedding(RIGHT, base="new"), base_name="new", artifact_uri="u", is_weak=False)
        for base, expected in ((None, new), ("old", old)):
            questions = mixture(tx, {here: 1}, base=base)
            assert questions is not None
            [found] = search.answer(tx, questions)
            assert [one.version.id for one in found.neighbors] == [expected]
        assert mixture(tx, {here: 1}, base="unknown base") is None


def test_a_version_with_other_weights_is_found_as_it_is_now(database: Database) -> None:
    with database.transaction() as tx:
        here, moved = embedded(tx, "here", RIGHT), embedded(tx, "moved", UP, weights="w1")
        for weights, vector, similarity in (("w2", LEFT, -1), ("w1", RIGHT, 0)):
            # The last one is stored unchanged: an embedding is written once.
            value = embedding(vector, weights=weights)
            embeddings.save(tx, moved, value, base_name="b", artifact_uri="u", is_weak=False)
            [one] = search.neighbors(tx, here).neighbors
            assert one.similarity == pytest.approx(similarity)
            assert len(embeddings.of_version(tx, moved)) == 1
        assert tx.execute("select count(*) from embeddings").fetchone() == (3,)
        embeddings.save(tx, moved, embedding(UP, weights="w1"), base_name="b", artifact_uri="u", is_weak=True)
        assert search.neighbors(tx, here).neighbors == ()


def test_an_index_answers_broad_questions_and_says_that_it_may_miss_some(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = nested(2500, 600)
    with database.transaction() as tx:
        first = filled(tx, vectors, tags={"team": "search"})
        gone = search.neighbors(tx, first, k=1).neighbors[0].version
    assert indexes.build(database) == []
    assert len(indexes.build(database, above=1000)) == 1
    assert indexes.build(database, above=1000) == []
    with database.transaction() as tx:
        transitions.mark_ended(tx, gone.id, state=State.DELETED, reason="")
        found = search.neighbors(tx, first)
        assert [one.similarity for one in found.neighbors] == pytest.approx(similarities_to_first(vectors)[1:11])
        assert not found.is_exact
        assert found.plan is not None
        assert (found.plan.route, found.plan.candidates) == (Route.INDEX, 200)
        few = Conditions(tags={"team": "search"})
        narrow = search.neighbors(tx, first, conditions=few)
        assert narrow.is_exact
        assert narrow.plan is not None
        assert narrow.plan.route is Route.LOOKUP
        assert narrow.plan.candidates in (248, 249)
        # With a lower limit the same versions come from the index.
        monkeypatch.setattr(search, "LOOKED_UP_AT_MOST", 100)
        broad = search.neighbors(tx, first, conditions=few)
        assert broad.plan is not None
        assert broad.plan.route is Route.INDEX
        assert broad.neighbors == narrow.neighbors
        near = search.neighbors(tx, first, k=None, min_similarity=0.6)
        expected = np.sum(similarities_to_first(vectors)[1:] >= 0.6)
        assert len(near.neighbors) == expected


def test_a_killed_build_is_repeated(database: Database) -> None:
    with database.transaction() as tx:
        filled(tx, nested(50, 600))
        [recipe] = embeddings.recipes(tx, REGISTRY)
    assert indexes.build(database, above=10) == [recipe.id]
    with database.connect() as connection:
        connection.execute("update pg_index set indisvalid = false where indexrelid = 'codes_lists_1'::regclass")
    with database.transaction() as tx:
        assert indexes.find_index(tx, recipe.id) is None
    assert indexes.build(database, above=10) == [recipe.id]
    with database.transaction() as tx:
        assert indexes.find_index(tx, recipe.id) == indexes.Index(versions=50, size=CODE_SIZE, lists=14)


def test_an_index_that_a_recipe_has_outgrown_is_built_again(database: Database) -> None:
    with database.transaction() as tx:
        filled(tx, nested(50, 600))
    assert len(indexes.build(database, above=10)) == 1
    with database.transaction() as tx:
        for number, vector in enumerate(nested(180, 600)):
            embedded(tx, f"later-{number}", vector)
        assert indexes.due(tx, above=10) == {1: 230}
    assert indexes.build(database, above=10) == [1]
    with database.transaction() as tx:
        assert indexes.due(tx, above=10) == {}
        assert tx.execute("select count(*) from pg_indexes where indexname like 'codes_lists%'").fetchone() == (1,)


def test_outliers_that_come_after_an_index_was_built_find_their_equals(database: Database) -> None:
    outliers = np.random.default_rng(8).normal(size=(20, 600))
    with database.transaction() as tx:
        filled(tx, nested(2000, 600))
    assert len(indexes.build(database, above=1000)) == 1
    with database.transaction() as tx:
        first = [embedded(tx, f"first-{number}", vector) for number, vector in enumerate(outliers)]
        second = [embedded(tx, f"second-{number}", vector + 0.1) for number, vector in enumerate(outliers)]
        for one, other in zip(first, second, strict=True):
            found = search.neighbors(tx, other, k=None, min_similarity=0.95)
            assert [neighbor.version.id for neighbor in found.neighbors] == [one]
            assert found.plan is not None
            assert found.plan.route is Route.INDEX
