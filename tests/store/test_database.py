from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString

import numpy as np
import psycopg
import pytest

from deltadex.errors import RegistryError, StoreError
from deltadex.ingest import queries as watchers
from deltadex.search import neighbors as search
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.store import database as database_module
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.store.roles import DatabaseRole
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.conftest import unused_port
from tests.stored import REGISTRY, discovered, embedded


def test_check_says_what_it_found(database: Database) -> None:
    assert re.fullmatch(
        r"PostgreSQL 18\.\d+, pgvector 0\.8\.\d+, tables up to date, within this machine", database.check()
    )


def test_a_server_that_is_away_is_a_retryable_error_without_the_password() -> None:
    port = unused_port()
    with Database(f"postgresql://me:s3cret@127.0.0.1:{port}/x") as database:
        for ask in (database.check, lambda: _ask(database)):
            with pytest.raises(StoreError, match=f"Postgres at 127.0.0.1:{port}/x: .*refused") as caught:
                ask()
            assert caught.value.retryable
            assert "deltadex doctor" in caught.value.hint
            assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, unused_port())
    with server.running() as url:
        database = Database(url)
        migrate(database)
        with database.transaction() as tx:
            version_id = discovered(tx)
    with pytest.raises(StoreError, match="refused") as caught:
        _ask(database)
    assert caught.value.retryable
    with server.running(), database, database.transaction() as tx:
        assert versions.get(tx, version_id).label == "support/1"


def test_a_pool_survives_the_death_of_its_backends(database: Database) -> None:
    _ask(database)
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> %s"
    with database.connect() as other:
        other.execute(kill, [other.info.backend_pid])
    _ask(database)


def test_a_connection_lost_within_a_transaction_is_retryable(database: Database) -> None:
    def lose() -> None:
        with database.transaction() as tx, database.connect() as other:
            other.execute("select pg_terminate_backend(%s, 10000)", [tx.info.backend_pid])
            tx.execute("select 1")

    with pytest.raises(StoreError) as caught:
        lose()
    assert caught.value.retryable


def test_a_pool_in_full_use_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_POOL_SECONDS", 0.2)
    with Database(database.url, pool_size=1) as small, small.transaction():
        with pytest.raises(StoreError, match="couldn't get a connection") as caught:
            _ask(small)
        assert caught.value.retryable
        assert "POOL_SIZE" in caught.value.hint


@pytest.mark.parametrize("error", [RegistryError("MLflow is away"), KeyError("x")])
def test_other_errors_pass_through_and_roll_back(database: Database, error: Exception) -> None:
    def fail() -> None:
        with database.transaction() as tx:
            discovered(tx)
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    with database.transaction() as tx:
        assert versions.listing(tx, REGISTRY) == []


def test_a_refused_statement_is_not_retryable(database: Database) -> None:
    with pytest.raises(StoreError, match="check constraint") as caught, database.transaction() as tx:
        tx.execute("update model_versions set deaths = -1 where id = %s", [discovered(tx)])
    assert not caught.value.retryable


def test_an_empty_database_asks_for_init(new_database_url: Callable[..., str]) -> None:
    with Database(new_database_url()) as database:
        for ask in (database.check, lambda: _ask(database)):
            with pytest.raises(StoreError) as caught:
                ask()
            assert "deltadex init" in caught.value.hint
            assert not caught.value.retryable
        with psycopg.connect(database.url) as connection:
            connection.execute("create extension vector")
        for ask in (database.check, lambda: _ask(database)):
            with pytest.raises(StoreError, match="are missing") as caught:
                ask()
            assert "deltadex init" in caught.value.hint
        migrate(database)
        _ask(database)


def test_an_address_that_cannot_be_read_does_not_show_its_password() -> None:
    with pytest.raises(StoreError, match="can't be read") as caught:
        Database("postgresq://me:s3cret@host/x")
    assert "s3cret" not in repr((caught.value.message, caught.value.hint, caught.value.__cause__))


def test_pgvector_may_live_in_a_schema_of_its_own(new_database_url: Callable[..., str]) -> None:
    with Database(new_database_url()) as database:
        with psycopg.connect(database.url) as connection:
            connection.execute("create schema extensions; create extension vector schema extensions")
        migrate(database)
        with database.transaction() as tx:
            first, second = embedded(tx, "a", np.ones(3)), embedded(tx, "b", np.ones(3))
            assert [neighbor.version.id for neighbor in search.neighbors(tx, first).neighbors] == [second]


def test_many_threads_share_one_database(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(10):
                with database.transaction() as tx:
                    transitions.requeue(tx, version_id, reason="again")
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as tx:
        assert (versions.get(tx, version_id).attempt, errors) == (81, [])


def _ask(database: Database) -> None:
    with database.transaction() as tx:
        versions.counts(tx, REGISTRY)


def test_a_deadlock_is_run_again_and_both_are_done(database: Database) -> None:
    with database.transaction() as tx:
        ids = [discovered(tx, name) for name in ("one", "two")]
    together, calls = threading.Barrier(2), []

    def swap(first: int, second: int) -> None:
        def change(tx: Transaction) -> None:
            calls.append(first)
            tx.execute("update model_versions set description = description || 'x' where id = %s", [first])
            if len(calls) <= 2:
                together.wait()
            tx.execute("update model_versions set description = description || 'y' where id = %s", [second])

        database.run(change)

    threads = [threading.Thread(target=swap, args=pair) for pair in (ids, reversed(ids))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 3
    with database.transaction() as tx:
        assert {"".join(sorted(row.registered.description)) for row in versions.listing(tx, REGISTRY)} == {"xy"}


def test_writers_that_collide_are_run_again_until_nothing_is_lost(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)

    def raise_attempt(tx: Transaction) -> None:
        tx.execute("set transaction isolation level serializable")
        transitions.requeue(tx, version_id, reason="again")

    writers = [threading.Thread(target=lambda: [database.run(raise_attempt) for _ in range(5)]) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with database.transaction() as tx:
        assert versions.get(tx, version_id).attempt == 16


def test_a_transaction_whose_connection_was_lost_is_run_again(database: Database) -> None:
    calls = []

    def discover(tx: Transaction) -> int:
        calls.append(1)
        version_id = discovered(tx)
        if len(calls) < 3:
            kill(database, tx)
            tx.execute("select 1")
        return version_id

    version_id = database.run(discover)
    with database.transaction() as tx:
        assert [row.id for row in versions.listing(tx, REGISTRY)] == [version_id]


def test_a_connection_lost_within_the_commit_is_no_reason_to_run_again(database: Database) -> None:
    calls = []

    def discover(tx: Transaction) -> None:
        calls.append(discovered(tx))
        kill(database, tx)

    with pytest.raises(StoreError) as caught:
        database.run(discover)
    assert (len(calls), caught.value.retryable) == (1, True)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("select 1 / 0", "division by zero"),
        ("set local statement_timeout = 1; select pg_sleep(1)", "statement timeout"),
        ("update model_versions set nothing = 1", "are missing"),
    ],
)
def test_nothing_else_is_run_again(database: Database, statement: LiteralString, says: str) -> None:
    calls = []

    def ask(tx: Transaction) -> None:
        calls.append(1)
        tx.execute(statement)

    with pytest.raises(StoreError, match=says):
        database.run(ask)
    assert len(calls) == 1


def test_endless_collisions_end(database: Database) -> None:
    calls = []

    def collide(tx: Transaction) -> None:
        calls.append(1)
        raise psycopg.errors.SerializationFailure("could not serialize")

    with pytest.raises(StoreError, match="could not serialize") as caught:
        database.run(collide)
    assert caught.value.retryable
    assert "Try again" in caught.value.hint
    assert len(calls) == 6


def test_word_of_changes_comes_at_once_and_only_of_those_that_matter(database: Database) -> None:
    changes = database.changes(every_seconds=20)
    next(changes)
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
    started = time.monotonic()
    next(changes)
    assert time.monotonic() - started < 2
    quiet = database.changes(every_seconds=0.3)
    next(quiet)
    with database.transaction() as tx:
        transitions.heartbeat(tx, version_id, attempt=1)
        watchers.record_poll(tx, REGISTRY, watermark_ms=1)
    started = time.monotonic()
    next(quiet)
    assert time.monotonic() - started >= 0.3
    changes.close()
    quiet.close()


def test_who_listens_hears_that_postgres_has_gone(database: Database) -> None:
    changes = database.changes(every_seconds=20)
    next(changes)
    with database.connect() as other:
        other.execute("select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'")
    with pytest.raises(StoreError) as caught:
        next(changes)
    assert caught.value.retryable


def kill(database: Database, tx: Transaction) -> None:
    with database.connect() as other:
        other.execute("select pg_terminate_backend(%s, 10000)", [tx.info.backend_pid])


def test_connections_act_as_the_role_that_they_are_given(database: Database) -> None:
    with Database(database.url, role=DatabaseRole.READER) as reading:
        _ask(reading)
        with reading.transaction() as tx:
            assert tx.execute("select current_user").fetchone() == (DatabaseRole.READER,)
        with pytest.raises(StoreError, match="permission denied"), reading.transaction() as tx:
            tx.execute("delete from findings")


def test_a_role_that_is_missing_is_named(database: Database) -> None:
    with (
        Database(database.url, role="nobody") as acting,
        pytest.raises(StoreError, match='role "nobody" does not exist'),
        acting.transaction(),
    ):
        pass
