"""Embeddings as they lie on MLflow's runs, for a store that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlflow.exceptions import MlflowException

from deltadex.domain import RegisteredVersion
from deltadex.mlflow_edge.connection import is_missing, registry_errors
from deltadex.mlflow_edge.registry import Registry
from deltadex.mlflow_edge.write_back import FOLDER, find_own_run


def logged_embeddings(registry: Registry, version: RegisteredVersion, folder: Path) -> Iterator[tuple[str, Path]]:
    """Fetch what may be a version's embeddings into a folder, and yield artifact URIs and where their files are now.

    Found by the places in which they are logged: tags are copied from version to version, and prove nothing. What the
    manifests say must be held against the version, since a run may have several.
    """
    ref = version.ref
    with registry_errors(f"looking for embeddings of {ref.label}"):
        for run_id in filter(None, (version.run_id, find_own_run(registry, ref))):
            uri = _artifact_uri(registry, run_id)
            for model in _folders(registry, run_id, FOLDER) if uri else ():
                # The model may have had another name.
                if model.endswith(f"-v{ref.version}"):
                    for path in _folders(registry, run_id, model):
                        yield f"{uri}/{path}", Path(registry.client.download_artifacts(run_id, path, str(folder)))


def _artifact_uri(registry: Registry, run_id: str) -> str | None:
    try:
        return str(registry.client.get_run(run_id).info.artifact_uri)
    except MlflowException as error:
        if is_missing(error):
            return None
        raise


def _folders(registry: Registry, run_id: str, path: str) -> list[str]:
    return [entry.path for entry in registry.client.list_artifacts(run_id, path) if entry.is_dir]
