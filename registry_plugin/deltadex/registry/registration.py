"""Registration of a folder as a new model version, as MLflow's own client does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.connection import is_missing, registry_errors, store_errors
from deltadex.registry.run_artifact import own_experiment
from deltadex.registry.sources import is_allowed
from deltadex.types import RegisteredVersion

#: Folder of the files in the artifacts of their run.
_PATH = "checkpoint"


def register_folder(registry: Registry, name: str, folder: Path, *, tags: Mapping[str, str]) -> RegisteredVersion:
    """Log a folder to a new run of Deltadex's own experiment and register it as the next version of a model.

    A model of this name is made if there is none.

    Parameters
    ----------
    tags
        Tags of the version, set at once with it.

    Raises
    ------
    RegistryError
        MLflow refuses, or Deltadex may not write where its experiment keeps its artifacts.
    """
    client = registry.client
    with registry_errors(f"registering {name}"):
        _ensure_model(registry, name)
        run = client.create_run(own_experiment(registry), run_name=name)
        run_id, uri = run.info.run_id, run.info.artifact_uri
    if not is_allowed(uri, tracking_uri=registry.tracking_uri, allowed=registry.sources):
        raise RegistryError(
            "MLflow's experiment of Deltadex keeps its artifacts where Deltadex may not write",
            hint="Delete that experiment for good, or have its place added to DELTADEX_SOURCES.",
        )
    with store_errors(f"logging the files of {name}"):
        get_artifact_repository(uri, tracking_uri=registry.tracking_uri).log_artifacts(str(folder), _PATH)
    with registry_errors(f"registering {name}"):
        client.update_run(run_id, status="FINISHED")  # `set_terminated` prints addresses on standard output
        made = client.create_model_version(name, f"runs:/{run_id}/{_PATH}", run_id=run_id, tags=dict(tags))
    version = registry.read(name, int(made.version))
    if version is None:
        raise RegistryError(f"MLflow: {name}/{made.version} was registered and is gone", retryable=True)
    return version


def _ensure_model(registry: Registry, name: str) -> None:
    try:
        registry.client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        registry.client.create_registered_model(name)
