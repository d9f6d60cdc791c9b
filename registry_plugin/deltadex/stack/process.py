"""Child processes of the stack: start, health check, log and stop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deltadex.errors import StackError
from deltadex.settings import PREFIX

#: Resets signal handlers to their defaults, then runs the program. A shell's `command &` and `nohup` ignore some
#: signals, and children inherit that: Prefect's worker would never stop. Popen has no option for this, and code between
#: fork and exec (`preexec_fn`) may deadlock in a process with threads.
_LAUNCHER = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceSpec:
    """Command line, environment and health check of a service.

    Attributes
    ----------
    is_up
        Health check; returns quickly and never raises.
    port
        Port of the service. The process must listen there itself: another process may have taken the port.
    url
        Address for people; None for a service without pages.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    is_up: Callable[[], bool]
    port: int | None = None
    url: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class ProcessId:
    """Unique identity of a process: pids are reused, so the start time (seconds since the epoch) is part of it."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Return the identity of a running process."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it is still running, else None."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) < 1
        except psutil.NoSuchProcess:
            return None
        return process if is_same and _runs(process) else None


@dataclass
class Service:
    """One service of the stack, as a child process."""

    spec: ServiceSpec
    log: Path
    restarted_at: list[float] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process in its own session: Ctrl-C reaches only the stack, which stops its services in order."""
        private_folder(self.log.parent)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, *self.spec.argv],
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,  # databases and logs hold everybody's models and decisions
            )

    @property
    def id(self) -> ProcessId | None:
        """Identity of the process; None if it is not running."""
        return ProcessId.of(self._process.pid) if self._process and self._process.poll() is None else None

    def wait_up(self, seconds: float) -> None:
        """Wait until the service is up. Raises as `wait_all_up`."""
        for _ in wait_all_up([self], seconds):
            pass

    def is_up(self, *, waited: float, limit: float) -> bool:
        """Return whether the service is up.

        Parameters
        ----------
        waited, limit
            Seconds waited so far, and their limit.

        Raises
        ------
        StackError
            The process ended, or the limit is exceeded; the message has the end of its log.
        """
        if self.spec.is_up() and (self.spec.port is None or self.listens_on(self.spec.port)):
            return True
        if self.id is None or waited > limit:
            problem = "ended" if self.id is None else f"was not up after {limit:.0f} s"
            raise StackError(f"{self.spec.name} {problem}\n{self._log_tail()}", hint=f"See {self.log}.")
        return False

    def stop(self, seconds: float = 20) -> None:
        """Stop the process and all its descendants; kill those still running after `seconds`."""
        identity = self.id
        if identity is not None:
            stop_processes([identity], self.spec.stop_signal, seconds)
        if self._process is not None:
            self._process.wait()

    def listens_on(self, port: int) -> bool:
        """Return whether the process or a descendant listens on a port."""
        root = self.id.find() if self.id else None
        return root is not None and any(port in _ports(member) for member in _with_descendants(root))

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def wait_all_up(services: Iterable[Service], seconds: float) -> Iterator[Service]:
    """Yield each service as soon as it is up.

    Raises
    ------
    StackError
        A service ended, or is not up after `seconds`; the message has the end of its log.
    """
    started, waiting = time.monotonic(), list(services)
    while waiting:
        for service in list(waiting):
            if service.is_up(waited=time.monotonic() - started, limit=seconds):
                waiting.remove(service)
                yield service
        if waiting:
            time.sleep(0.1)


def stop_processes(identities: Iterable[ProcessId], stop_signal: signal.Signals, seconds: float = 20) -> None:
    """Signal the processes, wait, then kill them and their descendants if still running after `seconds`."""
    roots = [process for identity in identities if (process := identity.find())]
    family = [member for root in roots for member in _with_descendants(root)]
    for root in roots:
        _send(root, stop_signal)
    for member in _still_running(family, seconds):
        log.warning("killed pid=%d after_seconds=%g signal=%s", member.pid, seconds, stop_signal.name)
        _send(member, signal.SIGKILL)
    _still_running(family, 5)


def _still_running(family: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until all processes have ended, at most `seconds`, and return those still running.

    `psutil.wait_procs` would keep waiting for zombies, whose parent may be any process.
    """
    deadline = time.monotonic() + seconds
    while (running := [member for member in family if _runs(member)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _ports(process: psutil.Process) -> set[int]:
    """Return the TCP ports on which the process listens."""
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:  # it ends at this moment
        return set()
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def _with_descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def http_check(url: str) -> Callable[[], bool]:
    """Return a health check: True if a GET of this loopback URL returns 200."""

    def check() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - an http URL of our own
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return check


def private_folder(path: Path) -> Path:
    """Return a folder that only this user can enter, made if it is missing; one from before is closed, too."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def environment(data_dir: Path, **extra: str) -> dict[str, str]:
    """Return this process's environment without Deltadex's settings, with all telemetry switched off, plus `extra`.

    Our settings have the secrets of all services: each is given its own in `extra`.

    Temporary files go below `data_dir`: Prefect's runner uses a temporary folder with a fixed name, which in the shared
    /tmp would belong to the first user of this machine.
    """
    temporary = private_folder(data_dir / "tmp")
    quiet = {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "HF_HUB_OFFLINE": "1",
        # MLflow uses git only to record a commit, and warns at each start if it is missing.
        "GIT_PYTHON_REFRESH": "quiet",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        # Idle OpenMP threads would spin and slow down all other services.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TMPDIR": str(temporary),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**inherited, **quiet, **extra}
