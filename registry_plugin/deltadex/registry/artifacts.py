"""Files of a model version: read in place if local, else fetched from MLflow on demand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlparse
from urllib.request import url2pathname

import requests
from mlflow.entities import LoggedModel, Run
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from mlflow.utils.uri import append_to_uri_path

from deltadex.downloads.cache import Hold
from deltadex.downloads.files import Files, LocalFiles
from deltadex.downloads.resume import Destination, FetchedFiles, ListedFile, PlainFolder, resume
from deltadex.errors import BaseNotFound, IncompleteCheckpoint, RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.connection import registry_errors, store_errors
from deltadex.registry.sources import check_source
from deltadex.settings import DEFAULT_WORKSPACE
from deltadex.types import ModelVersionRef, RegisteredVersion


class ArtifactSource:
    """Files behind an MLflow artifact URI. Implements `deltadex.downloads.resume.Source`."""

    def __init__(self, registry: Registry, uri: str, *, where: str) -> None:
        self._registry = registry
        self._uri = uri
        self.where = where

    @cached_property
    def _repository(self) -> ArtifactRepository:
        address = self._registry.tracking_uri
        if urlparse(self._uri).scheme not in ("models", "runs"):  # MLflow's client for a store may fail in any way
            self._check(self._uri)
        with store_errors(f"opening the artifacts of {self.where}"):
            repository = get_artifact_repository(self._uri, tracking_uri=address, registry_uri=address)
        # A repository of a `models:/` or `runs:/` URI wraps the one of the place that it leads to.
        while (inner := getattr(repository, "repo", None)) is not None:
            repository = inner
        self._check(repository.artifact_uri)
        return repository

    def _check(self, uri: str) -> None:
        registry = self._registry
        check_source(uri, tracking_uri=registry.tracking_uri, allowed=registry.sources, where=self.where)

    def listing(self) -> Mapping[str, ListedFile]:
        """List all files; MLflow provides sizes but no digests."""
        with store_errors(f"listing the artifacts of {self.where}"):
            return dict(self._walk(None))

    def _walk(self, path: str | None) -> Iterator[tuple[str, ListedFile]]:
        for entry in self._repository.list_artifacts(path):
            if entry.is_dir:
                yield from self._walk(entry.path)
            else:
                yield entry.path, ListedFile(entry.file_size)

    def download(self, path: str, partial: Path) -> None:
        """Download one file: resumable if MLflow's server proxies artifacts, else whole with the store's own client."""
        with store_errors(f"fetching {path} of {self.where}"):
            if isinstance(self._repository, HttpArtifactRepository):
                return resume(lambda headers: self._get(path, headers), partial)
            whole = partial.with_suffix(".whole")  # a fixed name, so that killed downloads do not pile up
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
            raise IncompleteCheckpoint(
                f"{self.where} has no file {path}", hint="Was it deleted? Log the checkpoint again."
            )
        raise RegistryError(
            f"MLflow: fetching {path} of {self.where} failed: HTTP {response.status_code}",
            hint="Check that Deltadex's account may read the artifacts of this model.",
            retryable=response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR,
        )


def cache_key(registry: Registry, ref: ModelVersionRef, *, role: str) -> str:
    """Return the cache key of a version's files; a deleted and recreated version has a different key.

    Parameters
    ----------
    role
        `base` or `finetune`: one model may be both, and only bases stay in the cache.
    """
    where = "" if registry.workspace == DEFAULT_WORKSPACE else f" in {registry.workspace}"
    return f"{role} {ref.label} of {registry.tracking_uri}{where}, {ref.created_ms}"


def version_files(
    registry: Registry,
    version: RegisteredVersion,
    destination: Destination | Path,
    *,
    parallel: int = 4,
    run: Run | None = None,
) -> Files:
    """Return the files of a model version; files on the local file system are not copied.

    Parameters
    ----------
    destination
        Target of fetched files: an entry of the cache, or a folder of the caller.
    parallel
        Number of parallel downloads.
    run
        The version's run, if it was read already.

    Raises
    ------
    UnsupportedCheckpoint
        They lie where the registry's `sources` do not allow it; of a store other than a folder, at the first read.
    """
    ref = version.ref
    with registry_errors(f"locating the artifacts of {ref.label}"):
        uri = version.source
        if urlparse(uri).scheme == "models":  # of any other source, MLflow's server returns the source itself
            uri = registry.client.get_model_version_download_uri(ref.name, str(ref.version))
        uri = _resolve_runs_uri(registry, uri, run)
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        check_source(uri, tracking_uri=registry.tracking_uri, allowed=registry.sources, where=ref.label)
        return LocalFiles(Path(url2pathname(parsed.path)))
    if isinstance(destination, Path):
        destination = PlainFolder(destination)
    return FetchedFiles(ArtifactSource(registry, uri, where=ref.label), destination, parallel=parallel)


def base_files(registry: Registry, where: str, hold: Hold, *, parallel: int = 4) -> Files:
    """Return the files of a base: of a local folder, or of a `models:/name/version`, kept in the cache.

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


def _resolve_runs_uri(registry: Registry, uri: str, known: Run | None) -> str:
    """Resolve a `runs:/` URI: to the run's logged model of that name, else to the run's artifacts.

    MLflow 3.17's own resolution looks up logged models on the process's default server instead of the given one.
    """
    if not RunsArtifactRepository.is_runs_uri(uri):
        return uri
    run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
    run = known if known and known.info.run_id == run_id else registry.client.get_run(run_id)
    name, _, rest = (path or "").partition("/")
    for model in _logged_models(registry, run.info.experiment_id, name):
        if model.source_run_id == run_id:
            return str(append_to_uri_path(model.artifact_location, rest))
    return str(append_to_uri_path(run.info.artifact_uri, path or ""))


def _logged_models(registry: Registry, experiment_id: str, name: str) -> Iterator[LoggedModel]:
    if not registry.has_logged_models(experiment_id):
        return
    token: str | None = None
    while name and "'" not in name:  # MLflow's filters cannot escape a quote, and no logged model has one in its name
        page = registry.client.search_logged_models([experiment_id], filter_string=f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return
