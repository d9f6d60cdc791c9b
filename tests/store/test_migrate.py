from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from deltadex.errors import StoreError
from deltadex.store.database import Database
from deltadex.store.migrate import migrate, shipped

SIMULTANEOUS = 8


@pytest.fixture
def empty(new_database_url: Callable[..., str]) -> Iterator[Database]:
    with Database(new_database_url()) as database:
        yield database


def test_of_many_simultaneous_migrations_exactly_one_applies(empty: Database) -> None:
    together = threading.Barrier(SIMULTANEOUS)

    def apply(_: int) -> list[str]:
        together.wait()
        return migrate(empty)

    with ThreadPoolExecutor(SIMULTANEOUS) as threads:
        results = list(threads.map(apply, range(SIMULTANEOUS)))
    assert sorted(results) == [[]] * (SIMULTANEOUS - 1) + [[migration.name for migration in shipped()]]
    assert migrate(empty) == []


def test_migrations_are_shipped_in_order() -> None:
    names = [migration.name for migration in shipped()]
    assert names[0] == "0001_initial.sql"
    assert names == sorted(names)


def test_tables_of_the_same_name_are_left_alone(empty: Database) -> None:
    with psycopg.connect(empty.url) as connection:
        connection.execute("create table model_versions (mlflow text)")
    migrate(empty)
    with psycopg.connect(empty.url) as connection:
        assert connection.execute("select count(*) from model_versions").fetchone() == (0,)
        connection.execute("insert into deltadex.watchers (registry) values ('x')")


def test_the_history_is_kept_for_writers_that_look_elsewhere(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(
            "insert into deltadex.model_versions (registry, name, version, created_ms, source, queue)"
            " values ('r', 'n', 1, 1, 's', 'fresh')"
        )
        connection.execute("update deltadex.model_versions set state = 'failed', reason = 'by hand'")
        assert connection.execute("select count(*) from deltadex.state_changes").fetchone() == (2,)


@pytest.mark.parametrize("ask", [migrate, Database.check])
def test_a_file_changed_after_it_was_applied_is_refused(database: Database, ask: Callable[[Database], object]) -> None:
    _execute(database, "update deltadex.schema_migrations set checksum = 'other'")
    with pytest.raises(StoreError, match=r"0001_initial\.sql is not what was applied"):
        ask(database)


@pytest.mark.parametrize("ask", [migrate, Database.check])
def test_a_database_from_the_future_is_refused(database: Database, ask: Callable[[Database], object]) -> None:
    _execute(database, "insert into deltadex.schema_migrations (name, checksum) values ('9999_later.sql', '')")
    with pytest.raises(StoreError, match=r"newer than this Deltadex: it has 9999_later\.sql"):
        ask(database)


def test_a_missing_migration_fails_the_check(database: Database) -> None:
    _execute(database, "delete from deltadex.schema_migrations")
    with pytest.raises(StoreError, match=r"0001_initial\.sql is missing") as caught:
        database.check()
    assert "deltadex init" in caught.value.hint


def test_a_server_without_pgvector_says_so(empty: Database) -> None:
    _execute(
        empty,
        "do $$ begin execute format("
        "'alter database %I set extension_control_path = %L', current_database(), '/nowhere'); end $$",
    )
    with pytest.raises(StoreError, match=r"pgvector could not be enabled: .*not available") as caught:
        migrate(empty)
    assert "Install pgvector" in caught.value.hint


@pytest.mark.parametrize("ask", [migrate, Database.check])
def test_a_pgvector_that_is_too_old_is_refused(database: Database, ask: Callable[[Database], object]) -> None:
    _execute(database, "update pg_extension set extversion = '0.8.1' where extname = 'vector'")
    with pytest.raises(StoreError, match=r"pgvector 0\.8\.1 is too old, 0\.8\.4 is needed") as caught:
        ask(database)
    assert "ALTER EXTENSION vector UPDATE" in caught.value.hint


def test_an_ordinary_user_needs_only_what_an_administrator_prepared(empty: Database) -> None:
    _execute(
        empty,
        "do $$ begin if to_regrole('ordinary') is null then create role ordinary login password 'x'; end if; end $$",
    )
    with Database(make_conninfo(empty.url, user="ordinary", password="x")) as ours:
        with pytest.raises(StoreError, match="pgvector could not be enabled") as caught:
            migrate(ours)
        assert "CREATE EXTENSION vector" in caught.value.hint
        _execute(empty, "create extension vector")
        with pytest.raises(StoreError, match="schema `deltadex` could not be made") as caught:
            migrate(ours)
        assert "Grant CREATE" in caught.value.hint
        _execute(empty, "create schema deltadex authorization ordinary")
        assert migrate(ours)
        assert ours.check()


def _execute(database: Database, statement: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(statement)
