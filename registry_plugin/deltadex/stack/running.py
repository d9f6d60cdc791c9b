"""The file with a running stack's processes in its data folder, so that other commands can find and stop them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deltadex.settings import STACK_FILE
from deltadex.stack.process import ProcessId, stop_processes

_STOP_SECONDS = 60


@dataclass(frozen=True)
class RunningService:
    """One service of a running stack."""

    name: str
    url: str | None
    log: str
    process: ProcessId
    stop_signal: int

    @property
    def is_alive(self) -> bool:
        """True if the process is running."""
        return self.process.find() is not None


@dataclass(frozen=True)
class RunningStack:
    """The supervisor and its services when the file was written; any of them may have died since."""

    supervisor: ProcessId
    services: tuple[RunningService, ...]

    @classmethod
    def read(cls, data_dir: Path) -> RunningStack | None:
        """Read the file in a data folder; None if there is none, as after a clean stop."""
        try:
            content = json.loads((data_dir / STACK_FILE).read_text())
        except FileNotFoundError:
            return None
        services = tuple(
            RunningService(**{**service, "process": ProcessId(**service["process"])}) for service in content["services"]
        )
        return cls(ProcessId(**content["supervisor"]), services)

    def write(self, data_dir: Path, settings: Mapping[str, Any]) -> None:
        """Write the file with `settings`, readable by this user only: the database URL contains a password."""
        partial = data_dir / f"{STACK_FILE}.partial"
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump({**asdict(self), "settings": settings}, file, indent=2)
        partial.replace(data_dir / STACK_FILE)

    def stop(self) -> None:
        """Signal the supervisor to stop, then stop any services that are left."""
        stop_processes([self.supervisor], signal.SIGTERM, _STOP_SECONDS)
        self.stop_services()

    def stop_services(self) -> None:
        """Stop the running services, last first."""
        for service in reversed(self.services):
            stop_processes([service.process], signal.Signals(service.stop_signal))


def clear_leftovers(data_dir: Path) -> None:
    """Stop the services of a killed supervisor and delete its file."""
    running = RunningStack.read(data_dir)
    if running is not None and running.supervisor.find() is None:
        running.stop_services()
        (data_dir / STACK_FILE).unlink(missing_ok=True)


def stop_stack(data_dir: Path) -> Sequence[str]:
    """Stop the stack of a data folder and return the names of the services that were running."""
    running = RunningStack.read(data_dir)
    if running is None:
        return ()
    names = [service.name for service in running.services if service.is_alive]
    running.stop()
    (data_dir / STACK_FILE).unlink(missing_ok=True)
    return names
