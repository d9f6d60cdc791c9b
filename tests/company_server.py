"""A company's Postgres: version 16 or 18 from the wheel, as an ordinary TCP server with a superuser's password."""

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

from deltadex.stack.postgres_main import as_ordinary_user, binary, open_folder
from tests.conftest import unused_port

#: Folder of each major's programs in the wheel.
MAJORS = {"16": "pginstall", "18": "pginstall18"}


@contextmanager
def company_server(folder: Path, major: str) -> Iterator[str]:
    """Run a server for the length of a block and give the address of its database `postgres`."""
    programs = Path(binary("postgres")).parents[2] / MAJORS[major] / "bin"
    password = secrets.token_hex(8)
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    cluster, secret = folder / "cluster", folder / "secret"
    cluster.mkdir(parents=True)
    secret.write_text(password)
    for path in (cluster, secret):
        os.chown(path, user.pw_uid, user.pw_gid)
    folder.chmod(0o711)
    # pytest's folders above are root's alone.
    descriptor, place = open_folder(folder)
    step_down = as_ordinary_user(user.pw_uid)
    initdb = [programs / "initdb", f"--pgdata={place}/cluster", "--username=dba", f"--pwfile={place}/secret"]
    subprocess.run(
        [*step_down, *map(str, initdb), "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
        pass_fds=[descriptor],
    )
    port = unused_port()
    server = [*step_down, str(programs / "postgres"), "-D", f"{place}/cluster", "-p", str(port)]
    options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=32MB"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*server, *(part for option in options for part in ("-c", option))],
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
        )
    os.close(descriptor)
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
