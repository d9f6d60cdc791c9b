"""Constraints of the database for all users, without the checks in Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import LiteralString

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from deltadex.embeddings import queries as embeddings
from deltadex.errors import StoreError
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.types import State
from deltadex.versions import transitions
from tests.stored import discovered, embedded, embedding

LEGAL = {
    State.DISCOVERED: set(State),
    State.QUEUED: set(State) - {State.DISCOVERED},
    State.RUNNING: set(State) - {State.DISCOVERED, State.QUEUED},
    State.WAITING: {State.WAITING, State.EMBEDDED, State.DELETED},
    State.EMBEDDED: {State.EMBEDDED, State.DELETED},
    State.UNSUPPORTED: {State.UNSUPPORTED, State.EMBEDDED, State.DELETED},
    State.SKIPPED: {State.SKIPPED, State.EMBEDDED, State.DELETED},
    State.FAILED: {State.FAILED, State.EMBEDDED, State.DELETED},
    State.DELETED: {State.DELETED},
}


def in_state(tx: Transaction, state: State) -> int:
    version_id = discovered(tx)
    tx.execute("update model_versions set lacking = 'time', state = %s where id = %s", [state, version_id])
    return version_id


def test_only_legal_steps_within_an_attempt_are_taken(database: Database) -> None:
    for before, after in itertools.product(State, State):
        with database.transaction() as tx:
            version_id = in_state(tx, before)
            refused = refusal(tx, "update model_versions set state = %s where id = %s", after, version_id)
            is_legal = after in LEGAL[before]
            said = f"support/1 can't become {after} (attempt 1) from {before} (attempt 1)"
            assert refused == ("" if is_legal else said)
            tx.rollback()


def test_any_version_may_start_over_with_the_next_attempt_and_in_no_other_way(database: Database) -> None:
    change = "update model_versions set state = %s, attempt = attempt + %s where id = %s"
    for before, after, step in itertools.product(State, State, (-1, 1, 2)):
        with database.transaction() as tx:
            refused = refusal(tx, change, after, step, in_state(tx, before))
            assert ("can't become" in refused) == ((after, step) != (State.DISCOVERED, 1))
            tx.rollback()


def test_a_version_begins_as_discovered(database: Database) -> None:
    for state in State:
        with database.transaction() as tx:
            refused = refusal(
                tx,
                "insert into model_versions (registry, name, version, created_ms, source, queue, state, lacking)"
                " values ('r', 'a', 1, 1, 's', 'fresh', %s, 'time')",
                state,
            )
            assert refused == ("" if state is State.DISCOVERED else f"a/1 can't become {state} (attempt 1)")
            tx.rollback()


def refusal(tx: Transaction, statement: LiteralString, *parameters: object) -> str:
    try:
        tx.execute(statement, parameters)
    except psycopg.errors.CheckViolation as error:
        return error.diag.message_primary or ""
    return ""


@pytest.fixture(scope="module")
def store(postgres_url: str) -> Iterator[Database]:
    """One database for all that it refuses anyway."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database refusals")
    with Database(make_conninfo(postgres_url, dbname="refusals")) as database:
        migrate(database)
        with database.transaction() as tx:
            embedded(tx, "support", np.ones(3))
        yield database


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("update model_versions set registry = 'other'", "another model version"),
        ("update model_versions set version = 7", "another model version"),
        ("update model_versions set created_ms = 7", "another model version"),
        ("delete from model_versions", "delete in model_versions is refused"),
        ("truncate model_versions cascade", "truncate in model_versions is refused"),
        ("update state_changes set reason = 'nicer'", "update in state_changes is refused"),
        ("delete from state_changes", "delete in state_changes is refused"),
        ("update embeddings set vector = '[1,2,3]'", "update in embeddings is refused"),
        ("update embeddings set norm = 2", "update in embeddings is refused"),
        ("update embeddings set weights_digest = 'x'", "update in embeddings is refused"),
        ("update embeddings set created_at = now()", "update in embeddings is refused"),
        ("delete from embeddings", "current embedding .* is not deleted"),
        ("truncate embeddings cascade", "truncate in embeddings is refused"),
    ],
)
def test_what_is_written_for_good_stays(store: Database, statement: LiteralString, says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught, store.transaction() as tx:
        tx.execute(statement)
    assert not caught.value.retryable
    assert caught.value.hint


def test_embeddings_that_nobody_needs_may_go(database: Database) -> None:
    with database.transaction() as tx:
        superseded, gone = embedded(tx, "superseded", np.ones(3)), embedded(tx, "gone", np.ones(3))
        later = embedding(np.ones(3) * 2, weights="other")
        embeddings.save(tx, superseded, later, base_name="base", artifact_uri="u", is_weak=False)
        transitions.mark_ended(tx, gone, state=State.DELETED, reason="gone")
    with database.transaction() as tx:
        removed = tx.execute("delete from embeddings where current_since is null or model_version_id = %s", [gone])
        assert removed.rowcount == 2
        assert [stored.norm for stored in embeddings.of_version(tx, superseded)] == pytest.approx([2 * 3**0.5])
