"""The logins of the embedded stack's services, attacked from within each."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deltadex.errors import StoreError
from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import STACK_FILE, Settings, load_settings
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.stack.running import RunningStack
from deltadex.stack.supervisor import Stack, acting_as
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from deltadex.store.roles import DatabaseRole, logins_of
from tests.conftest import unused_port


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseSettings]:
    """A server of its own with the logins that the stack makes: roles belong to a server."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), unused_port())
    with server.running() as url:
        made = {f"{role.name.lower()}_url": server.url_as(role, secrets.token_urlsafe(32)) for role in DatabaseRole}
        settings = DatabaseSettings(url=url, **made)
        with Database(url) as owner:
            migrate(owner, logins=logins_of(settings))
        yield settings


@pytest.mark.parametrize("login", ["writer", "reader", "auditor", "dashboard"])
@pytest.mark.parametrize(
    "statement",
    [
        "reset role; create table deltadex.mine ()",
        "set session authorization deltadex",
        "set role deltadex",
        "copy (select 1) to program 'id'",
        "copy (select 1) to '/tmp/deltadex-was-here'",
        "select pg_read_file('/etc/passwd')",
        "select lo_export(lo_creat(-1), '/tmp/deltadex-was-here')",
        "create function f() returns int language c as '/lib/x86_64-linux-gnu/libc.so.6', 'getpid'",
        "alter role deltadex_reader superuser",
        "alter table decisions disable trigger all",
        "drop schema deltadex cascade",
        "grant deltadex to current_user",
    ],
)
def test_a_login_stays_what_it_is(database: DatabaseSettings, login: str, statement: str) -> None:
    url = getattr(database, f"{login}_url").get_secret_value()
    with Database(url) as own:
        with own.connect() as tx:
            assert tx.execute("select session_user, current_user").fetchone() == (f"deltadex_{login}",) * 2
        refused = "permission denied|must be owner|not allowed|must be"
        with pytest.raises(StoreError, match=refused), own.connect() as tx:
            tx.execute(statement)  # type: ignore[arg-type]


def test_a_service_gets_one_login_and_a_company_with_one_keeps_it(database: DatabaseSettings) -> None:
    settings = Settings(database=database)
    reader = acting_as("reader", settings)
    assert reader.database_url == database.reader_url.get_secret_value()  # type: ignore[union-attr]
    assert logins_of(reader.database) == {}
    alone = Settings(database=DatabaseSettings(url=database.url, pool_size=7, role="deltadex_writer"))
    assert acting_as("reader", alone) == alone
    assert alone.url_of("dashboard") == alone.database_url


def test_commands_take_the_login_of_the_stack_unless_a_database_is_named(
    database: DatabaseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(Settings(data_dir=tmp_path, database=database), report=lambda _: None)
    stack._write_stack_file()
    try:
        assert (tmp_path / STACK_FILE).stat().st_mode & 0o777 == 0o600
        read = load_settings(data_dir=tmp_path)
        assert read.database == database
        assert read.url_of("reader") == database.reader_url.get_secret_value()  # type: ignore[union-attr]
        assert load_settings(data_dir=tmp_path, database={"url": "postgresql://x/y"}).url_of("reader").endswith("x/y")
        monkeypatch.setenv("DELTADEX_DATABASE__URL", "postgresql://x/z")
        assert load_settings(data_dir=tmp_path).url_of("dashboard") == "postgresql://x/z"
    finally:
        (tmp_path / STACK_FILE).unlink()


@pytest.mark.parametrize(("is_one", "says"), [(False, "own nothing"), (True, "logins are not separated")])
def test_doctor_says_whether_logins_are_separated(
    database: DatabaseSettings, tmp_path: Path, is_one: bool, says: str
) -> None:
    given = DatabaseSettings(url=database.url) if is_one else database
    stack = Stack(Settings(data_dir=tmp_path, database=given), report=lambda _: None)
    stack._write_stack_file()
    done = subprocess.run(
        [sys.executable, "-m", "deltadex", "doctor", "--data-dir", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    store = " ".join(done.stdout.split()).partition("registry")[0]
    assert "✓ store" in store
    assert says in store


def test_a_stack_gives_its_services_logins_that_the_database_knows(tmp_path: Path, servers: Settings) -> None:
    settings = servers.model_copy(update={"data_dir": tmp_path, "work_pool": f"pool-{tmp_path.name}"})
    stack = Stack(settings, report=lambda _: None)
    running = stack.start()
    try:
        with psycopg.connect(running.database_url) as connection:
            users = connection.execute(
                "select distinct usename from pg_stat_activity where application_name = 'deltadex'"
            ).fetchall()
        assert ("deltadex_writer",) in users
        assert ("deltadex",) not in users
        by_name = {service.spec.name: service.spec.env for service in stack.services}
        assert "//deltadex_dashboard:" in by_name["dashboard"]["DELTADEX_DATABASE__URL"]
        assert RunningStack.read(tmp_path) is not None
    finally:
        stack.stop()
