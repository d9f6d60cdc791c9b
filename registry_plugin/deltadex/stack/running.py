"""What a stack leaves in its data folder while it runs: how other commands find it, and how it is stopped."""

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
    """One service, as another command sees it."""

    name: str
    url: str | None
    log: str
    process: ProcessId
    stop_signal: int

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.find() is not None


@dataclass(frozen=True)
class RunningStack:
    """The supervisor and its services; any of them may have died meanwhile."""

    supervisor: ProcessId
    services: tuple[RunningService, ...]

    @classmethod
    def read(cls, data_dir: Path) -> RunningStack | None:
        """Return what was left in this data folder; None after a clean stop."""
        try:
            content = json.loads((data_dir / STACK_FILE).read_text())
        except FileNotFoundError:
            return None
        services = tuple(
            RunningService(**{**service, "process": ProcessId(**service["process"])}) for service in content["services"]
        )
        return cls(ProcessId(**content["supervisor"]), services)

    def write(self, data_dir: Path, settings: Mapping[str, Any]) -> None:
        """Write the file with `settings`, readable by this user alone: the database URL carries a password."""
        partial = data_dir / f"{STACK_FILE}.partial"
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump({**asdict(self), "settings": settings}, file, indent=2)
        partial.replace(data_dir / STACK_FILE)

    def stop(self) -> None:
        """Ask the supervisor to stop everything; where it is gone, stop its services ourselves."""
        stop_processes([self.supervisor], signal.SIGTERM, _STOP_SECONDS)
        self.stop_services()

    def stop_services(self) -> None:
        """Stop what is left of the services, last first."""
        for service in reversed(self.services):
            stop_processes([service.process], signal.Signals(service.stop_signal))


def clear_leftovers(data_dir: Path) -> None:
    """Stop what a killed supervisor left running, so that nobody takes its services for living ones."""
    running = RunningStack.read(data_dir)
    if running is not None and running.supervisor.find() is None:
        running.stop_services()
        (data_dir / STACK_FILE).unlink(missing_ok=True)


def stop_stack(data_dir: Path) -> Sequence[str]:
    """Stop the stack of a data folder and return the names of the services that ran; empty when none did."""
    running = RunningStack.read(data_dir)
    if running is None:
        return ()
    names = [service.name for service in running.services if service.is_alive]
    running.stop()
    (data_dir / STACK_FILE).unlink(missing_ok=True)
    return names
