"""The interface to the service that runs the flows.

The library starts and queries runs through this protocol. `deltadex_flows` implements it on Prefect and registers it
under the entry point group `deltadex.schedulers`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

from deltadex.errors import SchedulerError
from deltadex.settings import Settings
from deltadex.types import VersionRow
from deltadex.versions.shards import Shard


class Scheduler(Protocol):
    """Starts flow runs, exactly one per idempotency key."""

    def deploy(self) -> None:
        """Create or update work pool, queues and deployments. Idempotent."""

    def submit(self, version: VersionRow) -> str:
        """Start the embedding of one version and return the flow run's id; one attempt has one run."""

    def submit_shard(self, shard: Shard) -> str:
        """Start the embedding of a shard and return the flow run's id; one shard has one run."""

    def submit_search(self, search_id: int, *, key: str) -> str:
        """Start a search by examples and return the flow run's id; one key has one run."""

    def submit_replay(self, replay_id: int, *, key: str) -> str:
        """Start a replay and return the flow run's id; one key has one run."""

    def submit_advice(self, advice_id: int, *, key: str) -> str:
        """Start an advice and return the flow run's id; one key has one run."""

    def submit_safety(self, safety_id: int, *, key: str) -> str:
        """Start a safety measurement and return the flow run's id; one key has one run."""

    def submit_taught(self, search_id: int, *, key: str) -> str:
        """Start a search for taught strings and return the flow run's id; one key has one run."""

    def submit_analyses(self) -> str | None:
        """Start the analyses over all embeddings and return the flow run's id; None if a run is already waiting.

        Call it only while no analysis is computing: a run that claims for minutes to be running is marked as crashed.
        """

    def dead_runs(self, run_ids: Sequence[str]) -> Collection[str]:
        """Return the runs that make no more progress: ended, deleted, or stuck before their start."""

    def crash(self, run_id: str, reason: str) -> None:
        """Mark a run that died silently as crashed, to free its slot."""

    def check(self) -> str:
        """Return a line about the server, its pool and its workers, or raise SchedulerError with a hint."""


def load_scheduler(settings: Settings) -> Scheduler:
    """Return the installed scheduler.

    Raises
    ------
    SchedulerError
        No scheduler is installed.
    """
    installed = list(entry_points(group="deltadex.schedulers"))
    if not installed:
        raise SchedulerError("No scheduler is installed", hint="Install deltadex[flows].")
    return cast(Scheduler, installed[0].load()(settings))
