"""A company's own server: 16 and 18 over TCP with passwords, and users who may do just what they must."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import LiteralString

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.domain import Finding, FindingKind, State
from deltadex.errors import StoreError
from deltadex.governance.lifecycle import Action
from deltadex.store import (
    embeddings,
    findings,
    review_changes,
    reviews,
    revision,
    search,
    version_changes,
    versions,
    watchers,
)
from deltadex.store import migrate as migrations
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate, read_status, shipped
from deltadex.store.roles import Role
from tests.store.company_server import MAJORS, company_server
from tests.store.examples import REGISTRY, discovered, embedded, embedding

RIGHT = np.array([1.0, 0.0, 0.0])
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=MAJORS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with company_server(tmp_path_factory.mktemp("company"), request.param) as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    """The address of a new, empty database as the superuser."""
    name = f"db_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("create database {}").format(Identifier(name)))
    return make_conninfo(server, dbname=name)


@pytest.fixture
def as_user(server: str) -> Callable[..., str]:
    """Make a user who may log in, with these attributes, and give its address of a database."""

    def create(url: str, *attributes: str, member_of: str | None = None) -> str:
        name = f"user_{next(_numbers)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"create role {name} login password 'p' {' '.join(attributes)}")  # type: ignore[arg-type]
            if member_of:
                connection.execute(SQL("grant {} to {}").format(Identifier(member_of), Identifier(name)))
        return make_conninfo(url, user=name, password="p")

    return create


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def test_everything_that_is_stored_and_asked_works_there(url: str) -> None:
    with Database(url) as database:
        assert migrate(database) == [migration.name for migration in shipped()]
        assert migrate(database) == []
        with database.transaction() as tx:
            here, near = embedded(tx, "here", RIGHT), embedded(tx, "near", RIGHT + 0.01)
            assert [one.version.id for one in search.neighbors(tx, here).neighbors] == [near]
        status = read_status(database)
    assert (status.pending, status.owner, status.without_rights) == ([], "dba", [])
    assert list(status.applied) == [migration.name for migration in shipped()]


def test_a_wrong_password_is_said_and_not_shown(url: str) -> None:
    with Database(make_conninfo(url, password="hunter2")) as database:
        with pytest.raises(StoreError, match="password authentication failed") as caught:
            migrate(database)
        assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_a_server_that_is_too_old_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MINIMUM_SERVER", 99)
    with Database(url) as database, pytest.raises(StoreError, match=r"PostgreSQL 1[68]\.\d+ is too old, 99 is needed"):
        migrate(database)


def test_a_pgvector_that_is_too_old_is_refused(url: str) -> None:
    with Database(url) as database:
        migrate(database)
        execute(url, "update pg_extension set extversion = '0.8.1' where extname = 'vector'")
        with pytest.raises(StoreError, match=r"pgvector 0\.8\.1 is too old, 0\.8\.4 is needed"):
            migrate(database)


def test_a_user_without_rights_hears_what_an_administrator_must_do(url: str, as_user: Callable[..., str]) -> None:
    with Database(as_user(url)) as ours:
        with pytest.raises(StoreError, match="pgvector could not be enabled") as caught:
            migrate(ours)
        assert "CREATE EXTENSION vector" in caught.value.hint
        execute(url, "create extension vector")
        with pytest.raises(StoreError, match="schema `deltadex` could not be made") as caught:
            migrate(ours)
        assert "Grant CREATE" in caught.value.hint
        assert read_status(ours).applied == {}


def test_rights_are_granted_as_soon_as_somebody_has_made_the_roles(
    url: str, as_user: Callable[..., str], server: str
) -> None:
    drop_roles(server)
    execute(url, "create extension vector")
    ours = as_user(url)
    execute(url, f"grant create on database {url_database(url)} to public")
    with Database(ours) as database:
        assert migrate(database)
        assert read_status(database).without_rights == list(Role)
        for role in Role:
            execute(url, f"create role {role}")
        assert read_status(database).without_rights == list(Role)
        assert migrate(database) == []
        assert read_status(database).without_rights == []


def test_a_user_who_may_create_roles_makes_them(url: str, as_user: Callable[..., str], server: str) -> None:
    drop_roles(server)
    execute(url, f"create extension vector; grant create on database {url_database(url)} to public")
    with Database(as_user(url, "createrole")) as database:
        assert migrate(database)
        assert read_status(database).without_rights == []


@pytest.fixture
def filled(url: str) -> str:
    with Database(url) as database:
        migrate(database)
        with database.transaction() as tx:
            fill(tx)
    return url


def fill(tx: Transaction) -> None:
    older, newer = embedded(tx, "one", RIGHT), embedded(tx, "two", RIGHT)
    [recipe] = embeddings.recipes(tx, REGISTRY)
    pair = Finding(FindingKind.NEAR_DUPLICATE, newer, older, measure=1.0, threshold=0.95)
    findings.replace(tx, [pair], version_id=newer, recipe_id=recipe.id, kinds=[FindingKind.NEAR_DUPLICATE])
    review_changes.follow(tx, REGISTRY, name=None)
    watchers.polled(tx, REGISTRY, watermark_ms=1)


def read_everything(tx: Transaction) -> None:
    [one, _] = versions.listing(tx, REGISTRY)
    [recipe] = embeddings.recipes(tx, REGISTRY)
    assert search.neighbors(tx, one.id).neighbors
    assert embeddings.table(tx, recipe.id).rows
    assert embeddings.of_version(tx, one.id)
    assert versions.history(tx, one.id)
    assert findings.listing(tx, REGISTRY)
    assert reviews.listing(tx, REGISTRY)
    assert reviews.log(tx, REGISTRY) is not None
    assert watchers.read(tx, REGISTRY).watermark_ms
    assert revision.revision(tx, REGISTRY)
    assert versions.counts(tx, REGISTRY)
    assert tx.execute("select count(*) from decisions").fetchone()


def test_the_writer_does_the_whole_way_of_a_version(filled: str, as_user: Callable[..., str]) -> None:
    with Database(as_user(filled, member_of=Role.WRITER)) as writer:
        with writer.transaction() as tx:
            read_everything(tx)
            version_id = discovered(tx, "new")
            version_changes.mark_queued(tx, version_id, attempt=1, flow_run_id="f")
            version_changes.mark_running(tx, version_id, attempt=1, flow_run_id="f")
            version_changes.heartbeat(tx, version_id)
            for weights in ("a", "b", "a"):
                value = embedding(RIGHT, weights=weights)
                embeddings.save(tx, version_id, value, base_name="base", artifact_uri="u", is_weak=False)
            findings.replace(tx, [], version_id=version_id, recipe_id=None, kinds=list(FindingKind))
            watchers.polled(tx, REGISTRY, watermark_ms=2)
            review_changes.follow(tx, REGISTRY, name=None)
            [review] = reviews.listing(tx, REGISTRY)
            closed = reviews.record(tx, review.id, Action.CLOSED, seen=review.revision, reviewer="deltadex")
            assert review_changes.untagged(tx, REGISTRY, limit=1) == [review.id]
            review_changes.mark_tagged(tx, review.id, closed)
            version_changes.requeue(tx, version_id, reason="again")
            version_changes.mark_ended(tx, version_id, state=State.DELETED, reason="gone")
            assert len(versions.history(tx, version_id)) == 6
        assert migrate(writer) == []  # `deltadex init` of a service that may not migrate
    assert_refused(
        as_user(filled, member_of=Role.WRITER),
        "insert into state_changes (model_version_id, state, attempt, reason) values (1, 'failed', 1, 'forged')",
        "update state_changes set reason = ''",
        "update embeddings set norm = 1",
        "delete from embeddings",
        "delete from model_versions",
        "truncate findings",
        "update reviews set status = 'dismissed'",
        "insert into reviews (kind, model_version_id, severity, due_at, status)"
        " values ('drift', 1, 'low', now(), 'dismissed')",
        *FORGERIES,
        "alter table embeddings disable trigger all",
        "create table deltadex.mine ()",
    )


FORGERIES = [
    "insert into decisions (review_id, kind, model_version_id, evidence, action, status, reason, comment, reviewer)"
    " values (1, 'drift', 1, '{}', 'dismissed', 'dismissed', '', 'c', 'me')",
    "update decisions set comment = 'nicer'",
    "delete from decisions",
    "truncate decisions",
]
DISMISS: LiteralString = "select record_decision(id, revision, 'dismissed', 'sandbox', 'a toy', 'ada') from reviews"
WRITES = [
    "insert into model_versions (registry, name, version, created_ms, source, queue) values ('r','n',1,1,'s','fresh')",
    *map("delete from {}".format, ("model_versions", "embeddings", "codes", "findings", "reviews")),
    "update model_versions set state = 'failed'",
    "update embeddings set is_weak = true",
    "update findings set measure = 0",
    "update watchers set error = ''",
    "insert into recipes (digest, method, base_digest, base_name, dimension) values ('', '{}', '', '', 1)",
    "insert into clusters (recipe_id, registry, number) values (1, 'r', 1)",
    "update clusters set given_name = 'mine'",
    "delete from cluster_runs",
    "update reviews set tagged_id = null",
    "insert into reviews (kind, model_version_id, severity, due_at) values ('drift', 1, 'low', now())",
    *FORGERIES,
    "insert into schema_migrations (name, checksum) values ('x', 'y')",
    "create table deltadex.mine ()",
]


def test_the_reader_reads_and_decides_and_nothing_else(filled: str, as_user: Callable[..., str]) -> None:
    reader = as_user(filled, member_of=Role.READER)
    with Database(reader) as database, database.transaction() as tx:
        read_everything(tx)
        # A table of its own must not be taken for ours by the function that writes.
        tx.execute("create temporary table decisions (like deltadex.decisions)")
        tx.execute(DISMISS)
    with Database(filled) as owner, owner.transaction() as tx:
        [row] = tx.execute("select action, reviewer, decided_by, measure from decisions").fetchall()
        assert reviews.verify(tx).broken is None
    assert row == ("dismissed", "ada", conninfo_to_dict(reader)["user"], 1.0)
    assert_refused(reader, *WRITES, "select record_decision(id, revision, 'returned', '', '', 'deltadex') from reviews")


def test_the_auditor_only_reads(filled: str, as_user: Callable[..., str]) -> None:
    auditor = as_user(filled, member_of=Role.AUDITOR)
    with Database(auditor) as database, database.transaction() as tx:
        read_everything(tx)
    assert_refused(auditor, *WRITES, DISMISS)


def test_a_user_without_a_role_sees_nothing(filled: str, as_user: Callable[..., str]) -> None:
    assert_refused(as_user(filled), "select count(*) from deltadex.model_versions")


def assert_refused(url: str, *statements: str) -> None:
    with Database(url) as database:
        for statement in statements:
            with pytest.raises(StoreError, match=r"permission denied|must be owner"), database.connect() as tx:
                tx.execute(statement)  # type: ignore[arg-type]


def drop_roles(server: str) -> None:
    """Forget the roles in all databases of the server."""
    with psycopg.connect(server) as connection:
        names = [name for (name,) in connection.execute("select datname from pg_database where datallowconn")]
    for name in names:
        for role in Role:
            execute(
                make_conninfo(server, dbname=name),
                f"do $$ begin if to_regrole('{role}') is not null then drop owned by {role}; end if; end $$",
            )
    for role in Role:
        execute(server, f"drop role if exists {role}")


def url_database(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])
