"""A company's Postgres: the wheel's 16 or 18 as an ordinary TCP server with a superuser's password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deltadex.store.postmaster import as_ordinary_user, binary
from tests.conftest import unused_port

#: Folder of each major's programs in the wheel.
MAJORS = {"16": "pginstall", "18": "pginstall18"}


@contextmanager
def company_server(folder: Path, major: str) -> Iterator[str]:
    """Run a server for the length of a block and give the address of its database `postgres`."""
    programs = Path(binary("postgres")).parents[2] / MAJORS[major] / "bin"
    password = secrets.token_hex(8)
    # Where an ordinary user may enter: pytest's folders are root's alone.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    cluster, secret = folder / "cluster", folder / "secret"
    cluster.mkdir(parents=True)
    secret.write_text(password)
    os.chown(cluster, user.pw_uid, user.pw_gid)
    step_down = as_ordinary_user(user.pw_uid)
    initdb = [programs / "initdb", f"--pgdata={cluster}", "--username=dba", f"--pwfile={secret}"]
    subprocess.run(
        [*step_down, *map(str, initdb), "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
    )
    port = unused_port()
    server = [*step_down, str(programs / "postgres"), "-D", str(cluster), "-p", str(port)]
    options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=32MB"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*server, *(part for option in options for part in ("-c", option))], stdout=log, stderr=log
        )
    url = f"postgresql://dba:{password}@127.0.0.1:{port}/postgres"
    try:
        _wait(url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(cluster)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
