"""One child process: its log, its health, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deltadex.errors import StackError


@dataclass(frozen=True)
class ServiceSpec:
    """What to run, and how to know that it is up.

    Attributes
    ----------
    url
        Where people find it; None for what has no page.
    is_up
        Answers quickly, never raises.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    is_up: Callable[[], bool]
    url: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class ProcessId:
    """A process for good: numbers are used again, start times are not."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Read the start time of a living process."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
        except psutil.NoSuchProcess:
            return None
        return process if same and _runs(process) else None


@dataclass
class Service:
    """A running service of the stack."""

    spec: ServiceSpec
    log: Path
    restarts: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the stack, which stops it in order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.spec.argv,
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def id(self) -> ProcessId | None:
        """The process, while it runs."""
        return ProcessId.of(self._process.pid) if self._process and self._process.poll() is None else None

    def wait_up(self, seconds: float) -> None:
        """Wait until the service answers.

        Raises
        ------
        StackError
            It ended or stayed silent; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not self.spec.is_up():
            if self.id is None or time.monotonic() > deadline:
                what = "ended" if self.id is None else f"was not up after {seconds:.0f} s"
                raise StackError(f"{self.spec.name} {what}\n{self._log_tail()}", hint=f"Its whole log: {self.log}")
            time.sleep(0.1)

    def stop(self, seconds: float = 20) -> None:
        """Stop the process with all of its children; kill what is left after `seconds`."""
        identity = self.id
        if identity is not None:
            stop_processes([identity], self.spec.stop_signal, seconds)
        if self._process is not None:
            self._process.wait()

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def stop_processes(identities: Iterable[ProcessId], stop_signal: signal.Signals, seconds: float = 20) -> None:
    """Signal the processes, wait, and kill what is left of them and of their descendants."""
    roots = [process for identity in identities if (process := identity.find())]
    family = [member for root in roots for member in _with_descendants(root)]
    for root in roots:
        _send(root, stop_signal)
    for member in _still_running(family, seconds):
        _send(member, signal.SIGKILL)
    _still_running(family, 5)


def _still_running(family: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until none runs and return those that still do.

    `psutil.wait_procs` would go on waiting for one that has ended and whose parent, which may be anybody, has not yet
    taken notice.
    """
    deadline = time.monotonic() + seconds
    while (left := [member for member in family if _runs(member)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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


def answers(url: str) -> Callable[[], bool]:
    """Return a health check: whether a GET of this loopback URL succeeds."""

    def check() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - an http URL of our own making
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return check


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without telemetry anywhere, plus `extra`."""
    quiet = {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        # Idle OpenMP threads that spin slow every other service down.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return {**os.environ, **quiet, **extra}
