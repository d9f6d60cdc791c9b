from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from deltadex.domain import State
from deltadex.store import embeddings, search, versions
from deltadex.store.database import Database
from tests.store.examples import discovered, embedded, embedding

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
        versions.mark_ended(tx, deleted, state=State.DELETED, reason="")
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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
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


