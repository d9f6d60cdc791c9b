from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.bases.own_method import own_method
from deltadex.errors import StoreError
from deltadex.findings import queries as findings
from deltadex.reviews import chain, follow
from deltadex.reviews import queries as reviews
from deltadex.reviews.lifecycle import Action
from deltadex.store import migrate as migrations
from deltadex.store.copy import TABLES
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import Migration, migrate, read_status, shipped
from deltadex.types import State
from deltadex.versions import queries as versions

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


def test_migrations_are_numbered_without_gaps() -> None:
    assert [int(migration.name[:4]) for migration in shipped()] == [*range(1, len(shipped()) + 1)]


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
    with pytest.raises(StoreError, match=r"0001_versions\.sql is not what was applied"):
        ask(database)


@pytest.mark.parametrize("ask", [migrate, Database.check])
def test_a_database_from_the_future_is_refused(database: Database, ask: Callable[[Database], object]) -> None:
    _execute(database, "insert into deltadex.schema_migrations (name, checksum) values ('9999_later.sql', '')")
    with pytest.raises(StoreError, match=r"newer than this Deltadex: it has 9999_later\.sql"):
        ask(database)


def test_a_missing_migration_fails_the_check(database: Database) -> None:
    _execute(database, "delete from deltadex.schema_migrations")
    with pytest.raises(StoreError, match=r"0001_versions\.sql is missing") as caught:
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


def test_a_filled_database_stays_as_it_is(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(_COMPANY)
        one, two = (row.id for row in versions.listing(tx, "acme", states={State.EMBEDDED})[:2])
        follow.follow(tx, "acme", name=None)
        [row] = [row for row in reviews.listing(tx, "acme") if row.finding.other_id == one]
        reviews.record(tx, row.id, Action.DISMISSED, seen=row.revision, reviewer="ada", comment="another task")
    before = _content(database)

    assert migrate(database) == []

    assert _content(database) == before
    assert database.check()
    with database.transaction() as tx:
        assert [row.finding.measure for row in findings.listing(tx, "acme", version_id=two)] == [0.8]
        assert chain.verify(tx).broken is None


def test_a_later_migration_of_a_filled_database_keeps_what_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as tx:
        tx.execute(_COMPANY)
    before = _content(database)
    later = Migration("9999_later.sql", b"alter table recipes add column licence text not null default 'unknown'")
    monkeypatch.setattr(migrations, "shipped", lambda: [*shipped(), later])

    assert read_status(database).pending == [later.name]
    assert migrate(database) == [later.name]

    after = _content(database)
    assert [recipe.pop("licence") for recipe in after["recipes"]] == ["unknown"]
    assert [applied["name"] for applied in after.pop("schema_migrations")] == [*_names(), later.name]
    assert after == {table: rows for table, rows in before.items() if table != "schema_migrations"}


def test_a_registry_in_use_keeps_the_method_that_it_had_and_a_new_one_gets_ours(empty: Database) -> None:
    _as_released(empty, [one for one in shipped() if one.name < "0014"])
    with empty.connect() as tx:
        tx.execute(_COMPANY)
    migrate(empty)
    with empty.transaction() as tx:
        assert [own_method(tx, registry) for registry in ("acme", "new")] == ["published", "content"]


#: A decision by `record_decision` as it was before 0007.
_DECIDE = (
    "select record_decision(id, revision, 'assigned', '', '', 'ada', '', 'ben') from reviews;"
    "select record_decision(id, revision, 'dismissed', 'sandbox', 'a toy', 'ada') from reviews"
)


#: The review of a finding, as it was opened before 0007.
_FOLLOW = """
    insert into reviews (kind, model_version_id, other_id, measure, threshold, evidence, recipe_id, severity, due_at)
    select kind, model_version_id, other_id, measure, threshold, evidence, recipe_id, 'low', now() from findings
"""


@pytest.fixture
def before_proofs(empty: Database) -> Database:
    """A database from before 0007 with a decision."""
    _as_released(empty, [one for one in shipped() if one.name < "0007"])
    with empty.connect() as tx:
        tx.execute(_COMPANY)
        tx.execute(_FOLLOW)
        tx.execute(_DECIDE)
    return empty


def test_a_log_from_before_proofs_goes_on(before_proofs: Database) -> None:
    with before_proofs.connect() as tx:
        before = tx.execute("select id, hash, comment from decisions order by id").fetchall()
    assert "0007_proofs.sql" in migrate(before_proofs)
    with before_proofs.transaction() as tx:
        assert tx.execute("select id, former_hash, comment from decisions order by id").fetchall() == before
        assert (found := chain.verify(tx)).problem == ""
        row = reviews.listing(tx, "acme")[0]
        reviews.record(tx, row.id, Action.REOPENED, seen=row.revision, reviewer="ada", comment="after all")
        reviews.erase(tx, before[0][0], reviewer="ida", identity="", reason="on request")
        assert chain.verify(tx, holding=found.head).problem == ""


def test_a_log_that_was_changed_before_it_was_migrated_gets_no_new_proof(before_proofs: Database) -> None:
    with before_proofs.connect() as tx:
        tx.execute("alter table decisions disable trigger user")
        tx.execute("update decisions set comment = 'nicer' where action = 'dismissed'")
    with pytest.raises(StoreError, match=r"entry \d+ of the decision log was changed"):
        migrate(before_proofs)
    assert "0007_proofs.sql" in read_status(before_proofs).pending


@pytest.mark.parametrize("ask", [migrate, Database.check, read_status])
@pytest.mark.parametrize("applied", [1, 15])
def test_a_database_from_before_the_first_release_is_refused(
    empty: Database, ask: Callable[[Database], object], applied: int
) -> None:
    names = ["0001_initial.sql", *(f"{number:04}_more.sql" for number in range(2, applied + 1))]
    _as_released(empty, [Migration(name, b"select 1") for name in names])
    with pytest.raises(StoreError, match=r"from before the first release: it has 0001_initial\.sql") as caught:
        ask(empty)
    for step in ("drop schema deltadex cascade", "deltadex init", "deltadex rebuild"):
        assert step in caught.value.hint


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


#: A version in each state, a pair, and a version that is gone.
_COMPANY: LiteralString = """
    insert into recipes (digest, method, base_digest, base_name, dimension)
    values ('r', '{"name": "m"}', 'b', 'base', 3);
    insert into model_versions (registry, name, version, created_ms, source, queue, tags, aliases)
    select 'acme', state, 1, number, 'runs:/x', 'fresh', '{"team": "ä"}', '{prod}'
    from unnest('{one,two,weak,discovered,queued,running,waiting,unsupported,failed,deleted}'::text[])
        with ordinality as listed (state, number);
    update model_versions set state = 'embedded', weights_digest = 'w' || name, artifact_uri = 'runs:/x/a'
    where name in ('one', 'two', 'weak', 'deleted');
    update model_versions set state = 'running', heartbeat_at = now() where name = 'running';
    update model_versions set state = name, reason = 'why', lacking = case name when 'waiting' then 'memory' end
    where name in ('queued', 'waiting', 'unsupported', 'failed', 'deleted');
    insert into embeddings (
        model_version_id, recipe_id, vector, norm, base_norm, probe_agreement, is_weak, weights_digest)
    select id, 1, (case name when 'two' then '[3,4,0]' else '[0,5,0]' end)::vector, 5, 10, 1, name = 'weak',
        weights_digest
    from model_versions where weights_digest is not null;
    insert into findings (kind, model_version_id, other_id, recipe_id, measure, threshold, evidence)
    select 'drift', two.id, one.id, 1, 0.8, 0.7, '{"a": 1}'
    from model_versions one, model_versions two where one.name = 'one' and two.name = 'two';
    insert into watchers (registry, watermark_ms, polled_at) values ('acme', 9, now());
"""


def _as_released(database: Database, migrations: list[Migration]) -> None:
    """Make what a release with these migrations had made."""
    with database.connect() as tx:
        tx.execute("create extension if not exists vector; create schema deltadex")
        tx.execute(
            "create table deltadex.schema_migrations ("
            "name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
        for migration in migrations:
            tx.execute(migration.sql)
            tx.execute("insert into schema_migrations values (%s, %s)", [migration.name, migration.checksum])


def _names() -> list[str]:
    return [migration.name for migration in shipped()]


def _content(database: Database) -> dict[str, list[dict[str, object]]]:
    """Return all rows of all tables."""
    with database.transaction() as tx:
        return {table: _rows(tx, table) for table in (*TABLES, "schema_migrations")}


def _rows(tx: Transaction, table: str) -> list[dict[str, object]]:
    query = SQL("select to_jsonb(each) from {} each order by each::text").format(Identifier(table))
    return [row for (row,) in tx.execute(query)]


def _execute(database: Database, statement: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(statement)
