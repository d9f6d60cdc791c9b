"""A company's own Postgres 16 or 18 over TCP with passwords, and users with minimal rights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import LiteralString

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.embeddings import queries as embeddings
from deltadex.errors import StoreError
from deltadex.findings import queries as findings
from deltadex.ingest import queries as watchers
from deltadex.reviews import chain, follow
from deltadex.reviews import queries as reviews
from deltadex.reviews.lifecycle import Action
from deltadex.search import neighbors as search
from deltadex.store import migrate as migrations
from deltadex.store import revision
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate, read_status, shipped
from deltadex.store.roles import DatabaseRole, is_separated
from deltadex.types import Finding, FindingKind, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.company_server import MAJORS, company_server
from tests.stored import REGISTRY, discovered, embedded, embedding, grouped

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
        assert read_status(database).without_rights == list(DatabaseRole)
        for role in DatabaseRole:
            execute(url, f"create role {role}")
        assert read_status(database).without_rights == list(DatabaseRole)
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
    grouped(tx, [older, newer])
    follow.follow(tx, REGISTRY, name=None)
    watchers.record_poll(tx, REGISTRY, watermark_ms=1)


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
    with Database(as_user(filled, member_of=DatabaseRole.WRITER)) as writer:
        with writer.transaction() as tx:
            read_everything(tx)
            version_id = discovered(tx, "new")
            transitions.mark_queued(tx, version_id, attempt=1, flow_run_id="f")
            transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
            transitions.heartbeat(tx, version_id, attempt=1)
            for weights in ("a", "b", "a"):
                value = embedding(RIGHT, weights=weights)
                embeddings.save(tx, version_id, value, base_name="base", artifact_uri="u", is_weak=False)
            findings.replace(tx, [], version_id=version_id, recipe_id=None, kinds=list(FindingKind))
            watchers.record_poll(tx, REGISTRY, watermark_ms=2)
            follow.follow(tx, REGISTRY, name=None)
            [review] = reviews.listing(tx, REGISTRY)
            closed = reviews.record(tx, review.id, Action.CLOSED, seen=review.revision, reviewer="deltadex")
            assert follow.with_outdated_tags(tx, REGISTRY, limit=1) == [review.id]
            follow.mark_tagged(tx, review.id, closed)
            transitions.requeue(tx, version_id, reason="again")
            transitions.mark_ended(tx, version_id, state=State.DELETED, reason="gone")
            assert len(versions.history(tx, version_id)) == 6
        assert migrate(writer) == []  # `deltadex init` of a service that may not migrate
    assert_refused(
        as_user(filled, member_of=DatabaseRole.WRITER),
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
ASK: LiteralString = "select record_decision(id, revision, 'requested', 'retire', 'a toy', 'ada') from reviews"
APPROVE: LiteralString = "select record_decision(id, revision, 'approved', '', 'yes', 'ben') from reviews"
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


#: What a login must not reach, whatever it says it is.
ESCAPES = [
    "reset role; create table deltadex.mine ()",
    "set role dba",
    "set session authorization dba",
    "copy (select 1) to program 'touch /tmp/deltadex-was-here'",
    "create temporary table t (line text); copy t from '/etc/passwd'",
]


@pytest.mark.parametrize("role", [DatabaseRole.READER, DatabaseRole.DASHBOARD])
def test_who_decides_reads_and_decides_and_nothing_else(
    filled: str, as_user: Callable[..., str], role: DatabaseRole
) -> None:
    url = as_user(filled, member_of=role)
    user = conninfo_to_dict(url)["user"]
    with Database(url) as database, database.transaction() as tx:
        read_everything(tx)
        # A table of its own must not be taken for ours by the function that writes.
        tx.execute("create temporary table decisions (like deltadex.decisions)")
        tx.execute(DISMISS)
    with Database(filled) as owner, owner.transaction() as tx:
        [row] = tx.execute("select action, reviewer, decided_by, measure from decisions").fetchall()
        assert chain.verify(tx).broken is None
    assert row == ("dismissed", "ada" if role is DatabaseRole.DASHBOARD else user, user, 0.96)
    assert_refused(url, *WRITES, "select record_decision(id, revision, 'returned', '', '', 'deltadex') from reviews")
    # A rule would have been decided in the name of its author.
    assert_refused(url, "select record_decision(id, revision, 'reopened', '', 'c', 'ceo', 'rule') from reviews")


@pytest.mark.parametrize("role", DatabaseRole)
def test_no_login_of_a_service_gets_out_of_its_role(
    filled: str, as_user: Callable[..., str], role: DatabaseRole
) -> None:
    assert_refused(as_user(filled, member_of=role), *ESCAPES)


@pytest.mark.parametrize("role", [DatabaseRole.READER, DatabaseRole.WRITER])
def test_whoever_is_not_the_dashboard_decides_as_who_they_logged_in_as(
    filled: str, as_user: Callable[..., str], role: DatabaseRole
) -> None:
    first, second = (as_user(filled, member_of=role) for _ in range(2))
    with Database(first) as database:
        with database.transaction() as tx:
            tx.execute(ASK)
        for named in (APPROVE, APPROVE.replace("'ben'", "'ben', identity => 'ben'")):
            with pytest.raises(StoreError, match="can't approve their own request"), database.transaction() as tx:
                tx.execute(named)  # type: ignore[arg-type]
    with Database(second) as database, database.transaction() as tx:
        tx.execute(APPROVE)
        names = tx.execute("select reviewer, identity from decisions order by id").fetchall()
    assert names == [(conninfo_to_dict(url)["user"],) * 2 for url in (first, second)]


def test_whoever_is_not_the_dashboard_names_and_asks_as_who_they_logged_in_as(
    filled: str, as_user: Callable[..., str]
) -> None:
    reader = as_user(filled, member_of=DatabaseRole.READER)
    with Database(filled) as owner, owner.transaction() as tx:
        tx.execute("insert into clusters (recipe_id, registry, number) values (1, 'acme', 0)")
    with Database(reader) as database, database.transaction() as tx:
        tx.execute("select rename_cluster(id, 'acme', 'legal', 'ceo@acme.com') from clusters")
        tx.execute("select ask_task_search('acme', 'base', '[{}]', 'd', 'ceo@acme.com')")
        tx.execute("select ask_replay('acme', 1, 2, '[\"x\"]', 'd', 'file', 64, 'ceo@acme.com')")
        tx.execute("select ask_taught('acme', 1, '{}', 0, 96, 'ceo@acme.com')")
        tx.execute("select ask_advice('acme', 'base', '[{}]', 'd', '{}', '{*}', 'ceo@acme.com')")
        tx.execute("select start_over(id, 'ceo@acme.com asked for it', false) from model_versions")
        named = tx.execute(
            "select given_by from clusters union all select asked_by from task_searches"
            " union all select asked_by from taught_searches"
            " union all select asked_by from replays union all select asked_by from advice_requests"
        ).fetchall()
        reasons = tx.execute("select distinct reason from model_versions").fetchall()
    user = conninfo_to_dict(reader)["user"]
    assert named == [(user,)] * 5
    assert reasons == [(f"{user} asked for it",)]
    assert_refused(reader, "select erase_text(1, 'ida', '', 'x')")


def test_a_person_with_two_names_is_one_person(filled: str, as_user: Callable[..., str]) -> None:
    with Database(as_user(filled, member_of=DatabaseRole.DASHBOARD)) as database:

        def step(tx: Transaction, *, action: Action, name: str) -> None:
            [row] = reviews.listing(tx, REGISTRY)
            who = {"reviewer": name, "identity": "https://id#1", "comment": "c", "reason": "retire"}
            reviews.record(tx, row.id, action, seen=row.revision, **who)

        database.run(partial(step, action=Action.REQUESTED, name="ada"))
        with pytest.raises(StoreError, match="can't approve their own request"):
            database.run(partial(step, action=Action.APPROVED, name="ada.new"))


def test_init_makes_the_logins_of_the_services_and_changes_their_passwords(url: str) -> None:
    logins = {role: make_conninfo(url, user=f"{role}_{next(_numbers)}", password="one") for role in DatabaseRole}
    with Database(url) as owner:
        migrate(owner, logins=logins)
        changed = {role: make_conninfo(login, password="two") for role, login in logins.items()}
        migrate(owner, logins=changed)
    for role, login in changed.items():
        with Database(login) as database, database.connect() as tx:
            assert is_separated(tx)
            assert tx.execute("select pg_has_role(session_user, %s, 'member')", [role]).fetchone() == (True,)
        with Database(logins[role]) as before, pytest.raises(StoreError, match="password authentication failed"):
            before.check()


def test_the_roles_themselves_may_log_in(url: str) -> None:
    login = make_conninfo(url, user=DatabaseRole.AUDITOR, password="p")
    with Database(url) as owner:
        migrate(owner, logins={DatabaseRole.AUDITOR: login})
    with Database(login) as database, database.connect() as tx:
        assert tx.execute("select session_user from model_versions union select session_user").fetchall() == [
            (DatabaseRole.AUDITOR,)
        ]
    execute(url, f"alter role {DatabaseRole.AUDITOR} nologin")


def test_the_owner_is_no_login_of_a_service(url: str, as_user: Callable[..., str], server: str) -> None:
    with Database(url) as owner:
        with pytest.raises(StoreError, match="dba is a superuser or owns the tables"):
            migrate(owner, logins={DatabaseRole.READER: url})
        migrate(owner)
        with owner.connect() as tx:
            assert not is_separated(tx)
    ordinary = as_user(url)
    with Database(ordinary) as ours, pytest.raises(StoreError):
        migrate(ours, logins={DatabaseRole.READER: url})


def test_the_auditor_only_reads(filled: str, as_user: Callable[..., str]) -> None:
    auditor = as_user(filled, member_of=DatabaseRole.AUDITOR)
    with Database(auditor) as database, database.transaction() as tx:
        read_everything(tx)
    assert_refused(auditor, *WRITES, DISMISS)


def test_a_user_without_a_role_sees_nothing(filled: str, as_user: Callable[..., str]) -> None:
    assert_refused(as_user(filled), "select count(*) from deltadex.model_versions")


def assert_refused(url: str, *statements: str) -> None:
    with Database(url) as database:
        for statement in statements:
            refused = r"permission denied|must be owner|not allowed|cannot set"
            with pytest.raises(StoreError, match=refused), database.connect() as tx:
                tx.execute(statement)  # type: ignore[arg-type]


def drop_roles(server: str) -> None:
    """Forget the roles in all databases of the server."""
    with psycopg.connect(server) as connection:
        names = [name for (name,) in connection.execute("select datname from pg_database where datallowconn")]
    for name in names:
        for role in DatabaseRole:
            execute(
                make_conninfo(server, dbname=name),
                f"do $$ begin if to_regrole('{role}') is not null then drop owned by {role}; end if; end $$",
            )
    for role in DatabaseRole:
        execute(server, f"drop role if exists {role}")


def url_database(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])
