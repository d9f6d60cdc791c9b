"""Runs of an experiment of MLflow that hold heads of the decision log as tags."""

from __future__ import annotations

from mlflow.entities import LifecycleStage, ViewType

from deltadex.registry.client import Registry
from deltadex.registry.connection import registry_errors

_TAG = "deltadex.head"
_PAGE_SIZE = 1000


class HeadRuns:
    """The runs of one experiment.

    Parameters
    ----------
    experiment
        Name of the experiment; the first run makes it.
    """

    def __init__(self, registry: Registry, experiment: str) -> None:
        self._registry = registry
        self._experiment = experiment

    def add(self, name: str, line: str) -> None:
        """Make a finished run with this head; raises RegistryError if MLflow refuses or can't be reached."""
        with self._registry.bound(), registry_errors("publishing the log's head"):
            run = self._registry.client.create_run(self._experiment_id(), tags={_TAG: line}, run_name=name)
            # Unlike `set_terminated`, this prints nothing on the standard output.
            self._registry.client.update_run(run.info.run_id, status="FINISHED")

    def lines(self) -> list[str]:
        """Return the heads of all runs, also of deleted ones; raises RegistryError if they can't be read."""
        found, token = list[str](), None
        with self._registry.bound(), registry_errors("reading the log's published heads"):
            experiment = self._registry.client.get_experiment_by_name(self._experiment)
            while experiment is not None:
                page = self._registry.client.search_runs(
                    [experiment.experiment_id], run_view_type=ViewType.ALL, max_results=_PAGE_SIZE, page_token=token
                )
                found += [run.data.tags[_TAG] for run in page if _TAG in run.data.tags]
                token = page.token
                if not token:
                    break
        return found

    def _experiment_id(self) -> str:
        experiment = self._registry.client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return str(self._registry.client.create_experiment(self._experiment))
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            self._registry.client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)
