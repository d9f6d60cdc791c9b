"""The seam to whoever runs the flows.

The library starts runs and asks about them through this protocol; `deltadex_flows` implements it on Prefect and
registers under the entry point group `deltadex.schedulers`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

from deltadex.domain import VersionRow
from deltadex.errors import SchedulerError
from deltadex.settings import Settings


class Scheduler(Protocol):
    """Starts flow runs, exactly one per idempotency key."""

    def deploy(self) -> None:
        """Create or update work pool, queues and deployments. Idempotent."""

    def submit(self, version: VersionRow) -> str:
        """Start the embedding of one version and return the flow run's id; the same attempt gives the same run."""

    def submit_search(self, search_id: int, *, key: str) -> str:
        """Start a search by examples and return the flow run's id; the same key gives the same run."""

    def dead_runs(self, run_ids: Sequence[str]) -> Collection[str]:
        """Return those of the runs that will do nothing any more: ended, deleted, or stuck before their start."""

    def crash(self, run_id: str, reason: str) -> None:
        """Mark a run that died silently as crashed, so that it holds no slot."""

    def check(self) -> str:
        """Return a line about the server, its pool and its workers, or raise SchedulerError with what to do."""


def load_scheduler(settings: Settings) -> Scheduler:
    """Return the installed scheduler.

    Raises
    ------
    SchedulerError
        None is installed.
    """
    found = list(entry_points(group="deltadex.schedulers"))
    if not found:
        raise SchedulerError("No scheduler is installed", hint="Install deltadex[flows].")
    return cast(Scheduler, found[0].load()(settings))
