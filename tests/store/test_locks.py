"""Advisory locks of transactions and sessions in one namespace."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from deltadex.errors import StoreError
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.store import locks
from deltadex.store.database import Database
from deltadex.store.locks import SessionLock
from deltadex.store.migrate import migrate
from tests.conftest import unused_port


def test_a_lock_is_held_until_its_transaction_ends(database: Database) -> None:
    with database.transaction() as one, database.transaction() as other:
        assert locks.lock(one, "clusters:acme")
        assert not locks.lock(other, "clusters:acme")
        assert locks.lock(other, "clusters:other")
        one.commit()
        assert locks.lock(other, "clusters:acme")


def test_a_session_lock_is_held_by_one_until_it_is_released(database: Database) -> None:
    with SessionLock(database, "watch:acme") as one, SessionLock(database, "watch:acme") as other:
        assert [one.hold(), one.hold(), other.hold(), other.hold()] == [True, True, False, False]
        with database.transaction() as tx:
            assert not locks.lock(tx, "watch:acme")
        one.release()
        assert other.hold()
        assert not one.hold()


def test_a_session_lock_holds_no_transaction_open(database: Database) -> None:
    with SessionLock(database, "watch:acme") as one:
        assert one.hold()
        with database.transaction() as tx:
            states = tx.execute(
                """
                select state from pg_locks join pg_stat_activity using (pid)
                where locktype = 'advisory' and pg_locks.database = (
                    select oid from pg_database where datname = current_database())
                """
            ).fetchall()
    assert states == [("idle",)]


def test_a_session_lock_whose_connection_broke_is_taken_again_or_lost(database: Database) -> None:
    with SessionLock(database, "watch:acme") as one, SessionLock(database, "watch:acme") as other:
        for is_taken in (False, True):
            assert one.hold()
            with psycopg.connect(database.url, autocommit=True) as connection:
                connection.execute(
                    """
                    select pg_terminate_backend(pid, 5000) from pg_locks
                    where locktype = 'advisory' and pg_locks.database = (
                        select oid from pg_database where datname = current_database())
                    """
                )
            if is_taken:
                assert other.hold()
                assert not one.hold()
            else:
                assert one.hold()


def test_a_server_that_is_told_to_stop_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltadex.store.database._LIFETIME_SECONDS", 1.0)
    with EmbeddedPostgres(tmp_path, unused_port()).running() as url, Database(url) as database:
        migrate(database)
        with SessionLock(database, "watch:acme") as one:
            assert one.hold()
            [backend] = database.run(lambda tx: tx.execute("select pg_backend_pid()").fetchone() or [0])
            server = psutil.Process(backend).parent()
            assert server is not None
            server.terminate()  # waits until all clients have left
            deadline = time.monotonic() + 60
            while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline
                with suppress(StoreError):
                    one.hold()
                    database.run(lambda tx: tx.execute("select"))
                time.sleep(0.1)


def test_a_session_lock_needs_a_database_that_is_there() -> None:
    with (
        SessionLock(Database(f"postgresql://deltadex@127.0.0.1:{unused_port()}/none"), "watch:acme") as lock,
        pytest.raises(StoreError),
    ):
        lock.hold()
