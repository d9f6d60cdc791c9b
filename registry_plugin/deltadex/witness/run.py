"""A witness that is an experiment of MLflow: the weakest, because Deltadex's own account may delete its runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from deltadex.errors import RegistryError, WitnessError
from deltadex.settings import Settings
from deltadex.witness.head import Held, LogHead, parse_lines
from deltadex.witness.kinds import Address

if TYPE_CHECKING:
    from deltadex.registry.head_runs import HeadRuns

_EXPERIMENT = "deltadex-heads"
#: Pause between two runs, so that a day of reviews does not fill the experiment.
_MINUTES = 60


class RunWitness:
    """One run per head, with the head as a tag."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._experiment = address.place or _EXPERIMENT
        self.name = f"mlflow:{self._experiment}"
        self.least_pause = address.pause(_MINUTES)
        self._settings = settings

    def publish(self, head: LogHead) -> LogHead:
        """Make a run; raises WitnessError if MLflow refuses or can't be reached."""
        try:
            # Without time stamps, which are longer than MLflow's tags may be.
            self._runs.add(f"{head.registry}: {head.entries} entries", replace(head, stamps={}).line())
        except RegistryError as error:
            raise _as_witness_error(self.name, error) from error
        return head

    def held(self, registry: str) -> Held:
        """Return the heads of all runs, deleted ones as well; raises WitnessError as `publish`."""
        try:
            return parse_lines(self._runs.lines(), registry)
        except RegistryError as error:
            raise _as_witness_error(self.name, error) from error

    def caution(self) -> str:
        """Return who can rewrite it."""
        return "Deltadex's own account in MLflow can change and delete its runs"

    @cached_property
    def _runs(self) -> HeadRuns:
        from deltadex.registry.client import Registry
        from deltadex.registry.head_runs import HeadRuns

        return HeadRuns(Registry(self._settings.mlflow_uri, name=self._settings.registry), self._experiment)


def _as_witness_error(name: str, error: RegistryError) -> WitnessError:
    return WitnessError(f"{name}: {error.message}", hint=error.hint, retryable=error.retryable)
