from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.domain import State
from deltadex.errors import StoreError
from deltadex.governance.lifecycle import Action, Basis, Review, Status
from deltadex.store import findings, review_changes, reviews, search, version_changes, versions
from deltadex.store import migrate as migrations
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import Migration, migrate, read_status, shipped

SIMULTANEOUS = 8
#: Databases out there have applied these: a change, even of a comment, is another migration with a row of its own here.
CHECKSUMS = {
    "0001_initial.sql": "896b54cd145c54e5",
    "0002_waiting.sql": "4bdba0652c1ec16c",
    "0003_search.sql": "12911583fc67cb92",
    "0004_operations.sql": "62782065e196f4f9",
    "0005_redundancy.sql": "5fc6da7defb848af",
    "0006_cluster_runs.sql": "c630fd6bd15733c7",
    "0007_reviews.sql": "390637040490c421",
    "0008_words.sql": "def8437e038f3578",
    "0009_layouts.sql": "9cd7f633c8281e5a",
    "0010_rename_cluster.sql": "2ee6248bfb8e50ed",
    "0011_start_over.sql": "8b3155410331885e",
    "0012_task_searches.sql": "76f32c7979b6a1d3",
    "0013_geometries.sql": "88f0a5a285019e72",
    "0014_settings_imprints_names.sql": "dc99cf1767081f54",
    "0015_codes_comment.sql": "b2e00b6ad8ce2081",
}


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


def test_migrations_are_shipped_in_order_and_never_change() -> None:
    assert [(migration.name, migration.checksum[:16]) for migration in shipped()] == list(CHECKSUMS.items())


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


@pytest.mark.parametrize("applied", range(1, len(shipped())))
def test_every_earlier_database_comes_along_with_its_data(empty: Database, applied: int) -> None:
    _as_released(empty, shipped()[:applied])
    with empty.connect() as tx:
        tx.execute(_COMPANY)
        if applied >= 2:
            tx.execute(
                "insert into model_versions (registry, name, version, created_ms, source, queue)"
                " values ('acme', 'waiting', 1, 10, 'runs:/x', 'fresh')"
            )
            tx.execute("update model_versions set state = 'waiting', lacking = 'memory' where name = 'waiting'")
        # Whatever was known before is known after.
        tables = ("recipes", "model_versions", "state_changes", "embeddings", "findings", "watchers")
        before = {name: _rows(tx, name) for name in tables}
    assert read_status(empty).pending == [migration.name for migration in shipped()[applied:]]

    assert migrate(empty) == [migration.name for migration in shipped()[applied:]]

    assert empty.check()
    with empty.transaction() as tx:
        for name, rows in before.items():
            kept = [row.items() >= old.items() for row, old in zip(_rows(tx, name), rows, strict=True)]
            assert kept == [True] * len(rows)
        one, two, *_ = versions.listing(tx, "acme", states={State.EMBEDDED})
        [neighbor] = search.neighbors(tx, one.id).neighbors
        assert (neighbor.version.id, neighbor.similarity) == (two.id, pytest.approx(0.8))
        assert [row.finding.measure for row in findings.listing(tx, "acme")] == [0.8]
        for row in versions.listing(tx, "acme"):
            assert version_changes.requeue(tx, row.id, reason="all of them still move") == row.attempt + 1


def test_what_was_decided_before_there_were_reviews_is_the_beginning_of_their_log(empty: Database) -> None:
    _as_released(empty, shipped()[:4])
    with empty.connect() as tx:
        tx.execute(_COMPANY)
        for decision in ("confirmed", "dismissed"):
            tx.execute("select decide(id, %s, 'the same team', 'ada') from findings", [decision])
    migrate(empty)
    with empty.transaction() as tx:
        [row] = reviews.listing(tx, "acme")
        assert (row.review, row.finding.measure) == (Review(Status.DISMISSED, Basis(0.8)), 0.8)
        assert [(one.action, one.comment) for one in reviews.history(tx, row.id)] == [
            (Action.ACCEPTED, "the same team"),
            (Action.DISMISSED, "the same team"),
        ]
        assert reviews.verify(tx).broken is None
        review_changes.follow(tx, "acme", name=None)
        [again] = [one for one in reviews.listing(tx, "acme") if one.finding.kind is row.finding.kind]
    assert (again.id, again.is_found) == (row.id, True)


@pytest.mark.parametrize("applied", range(len(shipped())))
def test_a_migration_that_fails_leaves_nothing_behind(
    empty: Database, monkeypatch: pytest.MonkeyPatch, applied: int
) -> None:
    _as_released(empty, shipped()[:applied])
    broken = [*shipped(), Migration("9999_broken.sql", b"create table half (); select 1 / 0")]
    monkeypatch.setattr(migrations, "shipped", lambda: broken)
    with pytest.raises(StoreError, match="division by zero"):
        migrate(empty)
    assert len(read_status(empty).applied) == applied


#: Written in the words of the first release; each state that it knew, a pair, and a version that is gone.
_COMPANY: LiteralString = """
    insert into recipes (digest, method, base_digest, base_name, dimension)
    values ('r', '{"name": "m"}', 'b', 'base', 3);
    insert into model_versions (registry, name, version, created_ms, source, queue, tags, aliases)
    select 'acme', state, 1, number, 'runs:/x', 'fresh', '{"team": "ä"}', '{prod}'
    from unnest('{one,two,weak,discovered,queued,running,unsupported,failed,deleted}'::text[])
        with ordinality as listed (state, number);
    update model_versions set state = 'embedded', weights_digest = 'w' || name, artifact_uri = 'runs:/x/a'
    where name in ('one', 'two', 'weak', 'deleted');
    update model_versions set state = 'running', heartbeat_at = now() where name = 'running';
    update model_versions set state = name, reason = 'why'
    where name in ('queued', 'unsupported', 'failed', 'deleted');
    insert into embeddings (
        model_version_id, recipe_id, vector, norm, base_norm, probe_agreement, is_weak, weights_digest)
    select id, 1, (case name when 'two' then '[3,4,0]' else '[0,5,0]' end)::vector, 5, 10, 1, name = 'weak',
        weights_digest
    from model_versions where weights_digest is not null;
    insert into findings (kind, model_version_id, other_id, recipe_id, measure, threshold, evidence)
    select 'near_duplicate', two.id, one.id, 1, 0.8, 0.7, '{"a": 1}'
    from model_versions one, model_versions two where one.name = 'one' and two.name = 'two';
    insert into watchers (registry, watermark_ms, polled_at) values ('acme', 9, now());
"""


def _as_released(database: Database, migrations: list[Migration]) -> None:
    """Make what a release with these migrations had made; codes were not written before there were any."""
    with database.connect() as tx:
        tx.execute("create extension if not exists vector; create schema deltadex")
        tx.execute(
            "create table deltadex.schema_migrations ("
            "name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
        for migration in migrations:
            tx.execute(migration.sql)
            tx.execute("insert into schema_migrations values (%s, %s)", [migration.name, migration.checksum])


def _rows(tx: Transaction, table: str) -> list[dict[str, object]]:
    query = SQL("select to_jsonb(each) from {} each order by 1").format(Identifier(table))
    return sorted(
        (row for (row,) in tx.execute(query)), key=lambda row: str(row.get("id", row.get("model_version_id")))
    )


def _execute(database: Database, statement: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(statement)
