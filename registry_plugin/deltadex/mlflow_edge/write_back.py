"""What people see in MLflow: an artifact on the run, tags on the version. A courtesy, never our state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from deltadex.domain import Embedding, ModelVersionRef, RegisteredVersion, State
from deltadex.mlflow_edge.connection import is_missing, registry_errors
from deltadex.mlflow_edge.registry import Registry

#: The folder on a run below which embeddings lie, and the experiment of our own runs.
FOLDER = _EXPERIMENT = "deltadex"
_OWN_RUN_TAG = "deltadex.version"


def log_embedding(registry: Registry, version: RegisteredVersion, embedding: Embedding, *, folder: Path) -> str:
    """Put the files in `folder` onto the version's run and return their artifact URI.

    A version whose run is missing or deleted gets a run of ours. Logging again overwrites the same files.
    """
    ref = version.ref
    path = f"{FOLDER}/{ref.name}-v{ref.version}/{embedding.recipe.digest[:12]}"
    with registry_errors(f"logging the embedding of {ref.label}"):
        run_id = _usable_run(registry, version) or _own_run(registry, ref)
        registry.client.log_artifacts(run_id, str(folder), artifact_path=path)
        return f"{registry.client.get_run(run_id).info.artifact_uri}/{path}"


def tag_embedded(
    registry: Registry,
    version: RegisteredVersion,
    embedding: Embedding,
    *,
    artifact_uri: str,
    link: str | None = None,
) -> None:
    """Tag an embedded version, with a link to its page where there is one; the tags of an earlier outcome disappear."""
    tags = {
        "deltadex.state": State.EMBEDDED.value,
        "deltadex.recipe": embedding.recipe.digest[:12],
        "deltadex.strength": f"{embedding.strength:.4f}",
        "deltadex.artifact": artifact_uri,
        **({"deltadex.dashboard": link} if link else {}),
    }
    _set_tags(registry, version, tags)
    if "deltadex.reason" in version.tags:
        with registry_errors(f"tagging {version.ref.label}"):
            registry.client.delete_model_version_tag(version.ref.name, str(version.ref.version), "deltadex.reason")


def tag_not_embedded(registry: Registry, version: RegisteredVersion, state: State, *, reason: str) -> None:
    """Tag a version that ended without an embedding with the reason."""
    _set_tags(registry, version, {"deltadex.state": state.value, "deltadex.reason": reason[:1000]})


def tag_reviews(registry: Registry, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    """Tag a version with what people decided about its findings."""
    _set_tags(registry, version, tags)


def _set_tags(registry: Registry, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    # A tag costs 70 ms (FACTS): only what is not there yet.
    for key, value in tags.items():
        if version.tags.get(key) != value:
            with registry_errors(f"tagging {version.ref.label}"):
                registry.client.set_model_version_tag(version.ref.name, str(version.ref.version), key, value)


def _usable_run(registry: Registry, version: RegisteredVersion) -> str | None:
    if version.run_id is None:
        return None
    try:
        run = registry.client.get_run(version.run_id)
    except MlflowException as error:
        if is_missing(error):
            return None
        raise
    return version.run_id if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def find_own_run(registry: Registry, ref: ModelVersionRef) -> str | None:
    """Return the run that was made for the embedding of this version, under whatever name it had then."""
    experiment = registry.client.get_experiment_by_name(_EXPERIMENT)
    if experiment is None:
        return None
    key = f"tags.`{_OWN_RUN_TAG}` LIKE '%/{ref.version}@{ref.created_ms}'"
    found = registry.client.search_runs([experiment.experiment_id], filter_string=key)
    # Two models may have been registered in the same millisecond.
    runs = {run.data.tags[_OWN_RUN_TAG]: str(run.info.run_id) for run in found}
    return runs.get(_own_key(ref)) or (next(iter(runs.values())) if len(runs) == 1 else None)


def _own_run(registry: Registry, ref: ModelVersionRef) -> str:
    """Find or make the run that holds the embedding of a version without one."""
    client = registry.client
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(_EXPERIMENT)
    own = f"tags.`{_OWN_RUN_TAG}` = '{_own_key(ref)}'"
    found = client.search_runs([experiment_id], filter_string=own, max_results=1)
    if found:
        return str(found[0].info.run_id)
    run = client.create_run(experiment_id, tags={_OWN_RUN_TAG: _own_key(ref)}, run_name=ref.label)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _own_key(ref: ModelVersionRef) -> str:
    return f"{ref.label}@{ref.created_ms}"
