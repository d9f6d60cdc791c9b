"""Embeddings as artifacts of MLflow runs; a lost store is rebuilt from them."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import LifecycleStage, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.connection import store_errors
from deltadex.registry.sources import is_allowed
from deltadex.types import Embedding, ModelVersionRef, RegisteredVersion


def logged_embeddings(registry: Registry, version: RegisteredVersion, folder: Path) -> Iterator[tuple[str, Path]]:
    """Fetch candidate embeddings of a version into a folder, and yield their artifact URIs and local folders.

    They are found by artifact path, because tags are copied between versions and prove nothing. The caller must compare
    each manifest with the version, because a run may have several embeddings.
    """
    ref = version.ref
    with store_errors(f"looking for embeddings of {ref.label}"):
        for run_id in filter(None, (version.run_id, find_own_run(registry, ref))):
            if (run := registry.find_run(run_id)) is None or not _is_allowed(registry, run):
                continue
            # Match the version only: the model may have been renamed.
            models = [path for path in _folders(registry, run_id, FOLDER) if path.endswith(f"-v{ref.version}")]
            for path in (path for model in models for path in _folders(registry, run_id, model)):
                local = registry.client.download_artifacts(run_id, path, str(folder))
                yield f"{run.info.artifact_uri}/{path}", Path(local)


def _folders(registry: Registry, run_id: str, path: str) -> list[str]:
    return [entry.path for entry in registry.client.list_artifacts(run_id, path) if entry.is_dir]


#: The run's artifact folder for embeddings, and the name of the experiment for our own runs.
FOLDER = _EXPERIMENT = "deltadex"

_OWN_RUN_TAG = "deltadex.version"

log = logging.getLogger(__name__)


def log_embedding(
    registry: Registry, version: RegisteredVersion, embedding: Embedding, *, folder: Path, run: Run | None = None
) -> str:
    """Log the files in `folder` to the version's run and return their artifact URI.

    If the version's run is missing, deleted, or keeps its artifacts where workers may not write, a run of our own is
    used. Logging again overwrites the same files.

    Parameters
    ----------
    run
        The version's run, if it was read already.

    Raises
    ------
    RegistryError
        MLflow refuses, or the experiment of our own runs has such a place for its artifacts.
    """
    ref = version.ref
    path = f"{FOLDER}/{_path_part(ref.name)}-v{ref.version}/{embedding.recipe.digest[:12]}"
    with store_errors(f"logging the embedding of {ref.label}"):
        target = _usable_run(registry, version, run) or registry.client.get_run(_own_run(registry, ref))
        if not _is_allowed(registry, target):
            raise RegistryError(
                f"MLflow's experiment {_EXPERIMENT!r} keeps its artifacts where Deltadex may not write",
                hint="Delete that experiment for good, or have its place added to DELTADEX_SOURCES.",
            )
        # `log_artifacts` of MLflow's client would read the run again.
        artifacts = get_artifact_repository(target.info.artifact_uri, tracking_uri=registry.tracking_uri)
        artifacts.log_artifacts(str(folder), path)
        return f"{target.info.artifact_uri}/{path}"


def _path_part(name: str) -> str:
    """Return a model's name as part of an artifact path.

    MLflow's clients put paths into URLs: `#`, `?`, `%` and the like would end or change them. A digest tells names
    apart that then look alike.
    """
    plain = re.sub(r"[^\w .-]", "_", name)
    return name if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _usable_run(registry: Registry, version: RegisteredVersion, known: Run | None) -> Run | None:
    run = known or registry.run_of(version)
    is_usable = run and run.info.lifecycle_stage == LifecycleStage.ACTIVE and _is_allowed(registry, run)
    return run if is_usable else None


def _is_allowed(registry: Registry, run: Run) -> bool:
    """Return True if workers may read and write a run's artifacts: its experiment's author chose the place."""
    return is_allowed(run.info.artifact_uri, tracking_uri=registry.tracking_uri, allowed=registry.sources)


def find_own_run(registry: Registry, ref: ModelVersionRef) -> str | None:
    """Return our own run for this version's embedding, even if the model was renamed since."""
    runs = _own_runs(registry, ref)
    return runs.get(_own_key(ref)) or (next(iter(runs.values())) if len(runs) == 1 else None)


def _own_runs(registry: Registry, ref: ModelVersionRef) -> dict[str, str]:
    """Return our own runs for versions of this number and time by their keys: two models may share a millisecond.

    Names are compared here: MLflow's filters cannot escape a quote.
    """
    experiment = registry.client.get_experiment_by_name(_EXPERIMENT)
    if experiment is None:
        return {}
    key = f"tags.`{_OWN_RUN_TAG}` LIKE '%/{ref.version}@{ref.created_ms}'"
    found = registry.client.search_runs([experiment.experiment_id], filter_string=key)
    return {run.data.tags[_OWN_RUN_TAG]: str(run.info.run_id) for run in found}


def own_experiment(registry: Registry) -> str:
    """Return the id of our own experiment; create or restore it if needed."""
    client = registry.client
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    experiment_id = str(experiment.experiment_id if experiment else client.create_experiment(_EXPERIMENT))
    if experiment and experiment.lifecycle_stage == LifecycleStage.DELETED:
        log.warning("restoring the deleted MLflow experiment name=%s id=%s", _EXPERIMENT, experiment_id)
        client.restore_experiment(experiment_id)
    return experiment_id


def _own_run(registry: Registry, ref: ModelVersionRef) -> str:
    """Find or create our own run for a version without a usable run."""
    if own := _own_runs(registry, ref).get(_own_key(ref)):
        return own
    client = registry.client
    run = client.create_run(own_experiment(registry), tags={_OWN_RUN_TAG: _own_key(ref)}, run_name=ref.label)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _own_key(ref: ModelVersionRef) -> str:
    return f"{ref.label}@{ref.created_ms}"
