"""Registration of folders as in companies: artifacts on a run, and a model version that points to them."""

from __future__ import annotations

from pathlib import Path

from deltadex.registry.client import Registry
from deltadex.settings import DEFAULT_WORKSPACE
from deltadex.types import RegisteredVersion


def register_folder(registry: Registry, name: str, folder: Path, **tags: str) -> RegisteredVersion:
    """Log a folder to a run of its own and register it as the next version of `name`."""
    client = registry.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    run = client.create_run(_experiment(registry))
    client.log_artifacts(run.info.run_id, str(folder), artifact_path="checkpoint")
    client.set_terminated(run.info.run_id)
    made = client.create_model_version(
        name, f"runs:/{run.info.run_id}/checkpoint", run_id=run.info.run_id, tags=tags or None
    )
    version = registry.read(name, int(made.version))
    assert version is not None
    return version


def _experiment(registry: Registry) -> str:
    """Return MLflow's default experiment; only its default workspace has one."""
    if registry.workspace == DEFAULT_WORKSPACE:
        return "0"
    found = registry.client.get_experiment_by_name("training")
    return str(found.experiment_id if found else registry.client.create_experiment("training"))
