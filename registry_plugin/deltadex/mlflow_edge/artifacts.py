"""A model version's files: listed first, then fetched one by one as they are needed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from deltadex.checkpoints.files import Files, LocalFiles, inside
from deltadex.domain import RegisteredVersion
from deltadex.errors import BaseNotFound
from deltadex.mlflow_edge.connection import registry_errors
from deltadex.mlflow_edge.registry import Registry


class ArtifactFiles:
    """Files behind an MLflow artifact URI, fetched into `folder`. Implements `deltadex.checkpoints.files.Files`."""

    def __init__(self, registry: Registry, uri: str, folder: Path, *, where: str) -> None:
        self._registry = registry
        self._uri = uri
        self._folder = folder
        self.where = where

    @cached_property
    def _repository(self) -> ArtifactRepository:
        address = self._registry.tracking_uri
        with registry_errors(f"opening the artifacts of {self.where}"):
            return get_artifact_repository(self._uri, tracking_uri=address, registry_uri=address)

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        with registry_errors(f"listing the artifacts of {self.where}"):
            return dict(self._walk(None))

    def _walk(self, path: str | None) -> Iterable[tuple[str, int]]:
        for entry in self._repository.list_artifacts(path):
            if entry.is_dir:
                yield from self._walk(entry.path)
            else:
                yield entry.path, int(entry.file_size or 0)

    def sizes(self) -> Mapping[str, int]:
        """Relative path → size in bytes."""
        return self._sizes

    def fetch(self, paths: Iterable[str]) -> Path:
        """Fetch what is not there yet and return the local folder.

        Each file appears under its name only when it is complete, so a killed or a second fetch does no harm.
        """
        for path in paths:
            target = self._folder / inside(path)
            if target.is_file() and target.stat().st_size == self._sizes.get(path):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".fetch-") as partial:
                with registry_errors(f"fetching {path} of {self.where}"):
                    fetched = self._repository.download_artifacts(path, partial)
                Path(fetched).replace(target)
        return self._folder


def version_files(registry: Registry, version: RegisteredVersion, folder: Path) -> Files:
    """Return the files of a model version; nothing is copied where they lie on this machine's own file system."""
    ref = version.ref
    with registry_errors(f"locating the artifacts of {ref.label}"):
        uri: str = registry.client.get_model_version_download_uri(ref.name, str(ref.version))
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        return LocalFiles(Path(url2pathname(parsed.path)))
    return ArtifactFiles(registry, uri, folder, where=ref.label)


def base_files(registry: Registry, where: str, cache_dir: Path) -> Files:
    """Return the files of a base: a local folder, or a `models:/name/version` that stays in the cache.

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
    key = hashlib.sha256(f"{registry.tracking_uri} {version.ref}".encode()).hexdigest()[:32]
    return version_files(registry, version, cache_dir / "bases" / key)
