"""A model version's files: read where they lie if that is this machine, else fetched from MLflow as they are needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlparse
from urllib.request import url2pathname

import requests
from mlflow.entities import LoggedModel
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from mlflow.utils.uri import append_to_uri_path

from deltadex.checkpoints.cache import Hold
from deltadex.checkpoints.fetching import FetchedFiles, Listed, Place, PlainFolder, resume
from deltadex.checkpoints.files import Files, LocalFiles
from deltadex.domain import ModelVersionRef, RegisteredVersion
from deltadex.errors import BaseNotFound, BrokenCheckpoint, RegistryError
from deltadex.mlflow_edge.connection import registry_errors
from deltadex.mlflow_edge.registry import Registry


class ArtifactSource:
    """Files behind an MLflow artifact URI. Implements `deltadex.checkpoints.fetching.Source`."""

    def __init__(self, registry: Registry, uri: str, *, where: str) -> None:
        self._registry = registry
        self._uri = uri
        self.where = where

    @cached_property
    def _repository(self) -> ArtifactRepository:
        address = self._registry.tracking_uri
        with registry_errors(f"opening the artifacts of {self.where}"):
            return get_artifact_repository(self._uri, tracking_uri=address, registry_uri=address)

    def listing(self) -> Mapping[str, Listed]:
        """Walk the artifact's folders; MLflow knows sizes and no digests."""
        with registry_errors(f"listing the artifacts of {self.where}"):
            return dict(self._walk(None))

    def _walk(self, path: str | None) -> Iterator[tuple[str, Listed]]:
        for entry in self._repository.list_artifacts(path):
            if entry.is_dir:
                yield from self._walk(entry.path)
            else:
                yield entry.path, Listed(entry.file_size)

    def download(self, path: str, partial: Path) -> None:
        """Resume over HTTP where the MLflow server hands the files out; a store's own client fetches them whole."""
        with registry_errors(f"fetching {path} of {self.where}"):
            if isinstance(self._repository, HttpArtifactRepository):
                return resume(lambda headers: self._get(path, headers), partial)
            whole = partial.with_suffix(".whole")  # always the same, so that a killed fetch leaves it only once
            shutil.rmtree(whole, ignore_errors=True)
            whole.mkdir()
            Path(self._repository.download_artifacts(path, str(whole))).replace(partial)
            return shutil.rmtree(whole)

    def _get(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        credentials = get_default_host_creds(self._repository.artifact_uri)
        response: requests.Response = http_request(
            credentials, f"/{quote(path)}", "GET", stream=True, extra_headers=dict(headers)
        )
        if response.ok or response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return response
        response.close()
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise BrokenCheckpoint(f"{self.where} has no file {path}", hint="Was it deleted? Log the checkpoint again.")
        raise RegistryError(
            f"MLflow: fetching {path} of {self.where} failed: HTTP {response.status_code}",
            hint="May Deltadex's account read the artifacts of this model?",
            retryable=response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR,
        )


def cache_key(registry: Registry, ref: ModelVersionRef, *, role: str) -> str:
    """Return the key of a version's files in the cache; a version that was deleted and made again has another one.

    Parameters
    ----------
    role
        `base` or `finetune`: one model may be both, and only bases are kept.
    """
    return f"{role} {ref.label} of {registry.tracking_uri}, {ref.created_ms}"


def version_files(registry: Registry, version: RegisteredVersion, place: Place | Path, *, parallel: int = 4) -> Files:
    """Return the files of a model version; nothing is copied where they lie on this machine's own file system.

    Parameters
    ----------
    place
        Where files are fetched to: an entry of the cache, or a folder of the caller's own.
    parallel
        How many are fetched at the same time.
    """
    ref = version.ref
    with registry_errors(f"locating the artifacts of {ref.label}"):
        uri: str = registry.client.get_model_version_download_uri(ref.name, str(ref.version))
        uri = _behind_run(registry, uri)
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        return LocalFiles(Path(url2pathname(parsed.path)))
    place = PlainFolder(place) if isinstance(place, Path) else place
    return FetchedFiles(ArtifactSource(registry, uri, where=ref.label), place, parallel=parallel)


def base_files(registry: Registry, where: str, hold: Hold, *, parallel: int = 4) -> Files:
    """Return the files of a base: a local folder, or a `models:/name/version` that is kept in the cache.

    Raises
    ------
    BaseNotFound
        The registry has no such version.
    """
    if not where.startswith("models:/"):
        return LocalFiles(Path(where))
    name, _, number = where.removeprefix("models:/").partition("/")
    version = registry.read(name, int(number)) if number.isdigit() else None
    if version is None:
        raise BaseNotFound(
            f"The base {where} is not in the registry",
            hint="Correct DELTADEX_BASES; a registered base is written models:/NAME/VERSION, with a number.",
        )
    return version_files(registry, version, hold(cache_key(registry, version.ref, role="base")), parallel=parallel)


def _behind_run(registry: Registry, uri: str) -> str:
    """Return where the files of a `runs:/` URI are: with the run's logged model of that name, else with the run.

    MLflow 3.17's own answer looks for logged models at the process's default server instead of the one it is given.
    """
    if not RunsArtifactRepository.is_runs_uri(uri):
        return uri
    run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
    run = registry.client.get_run(run_id)
    name, _, rest = (path or "").partition("/")
    for model in _logged_models(registry, run.info.experiment_id, name):
        if model.source_run_id == run_id:
            return str(append_to_uri_path(model.artifact_location, rest))
    return str(append_to_uri_path(run.info.artifact_uri, path or ""))


def _logged_models(registry: Registry, experiment_id: str, name: str) -> Iterator[LoggedModel]:
    token: str | None = None
    while name and "'" not in name:  # which no name of a logged model has, and a filter can't say
        page = registry.client.search_logged_models([experiment_id], filter_string=f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return
