"""All embeddings again from what lies on MLflow's runs: after the store was lost, or to see whether it is right."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deltadex import discovery
from deltadex.activations.artifact import read_artifact, read_manifest
from deltadex.domain import Embedding, RegisteredVersion, State, VersionRow
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.mlflow_edge.read_back import logged_embeddings
from deltadex.pipeline import store_and_find
from deltadex.services import Services
from deltadex.store import embeddings, versions

#: Versions that are read from MLflow at the same time, and those that are held in memory.
_READERS, _BATCH = 4, 64
#: Differences up to this share of the base's norm are roundings: a version may have been embedded on two machines.
_ROUNDING = 1e-5

log = logging.getLogger(__name__)


@dataclass
class Rebuilt:
    """What became of the versions in the registry.

    Attributes
    ----------
    restored, unchanged
        Embeddings that were missing in the store, and those that it had already.
    without
        Versions on whose runs nothing was logged: they are embedded as if they were new.
    problems
        Version and reason for each embedding that is damaged, or differs from what the store has.
    """

    restored: int = 0
    unchanged: int = 0
    without: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Logged:
    embedding: Embedding
    base_name: str
    artifact_uri: str
    embedded_at: str


def rebuild(services: Services, *, on_progress: Callable[[int, int], None]) -> Rebuilt:
    """Bring into the store what the registry has and the store has not; nothing in the store is replaced.

    May be repeated and interrupted. Decisions, clusters and the histories of states are in no artifact.

    Raises
    ------
    RegistryError, StoreError
        One of them is away. A single version that can't be read is a problem in the result.
    """
    discovery.sweep(services)
    rows = services.database.run(
        lambda tx: versions.listing(tx, services.registry.name, states=set(State) - {State.DELETED})
    )
    result = Rebuilt()
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            for row, logged in zip(batch, readers.map(partial(_read, services), batch), strict=True):
                _take_in(services, row, logged, result)
            on_progress(start + len(batch), len(rows))
    return result


def _take_in(services: Services, row: VersionRow, logged: list[_Logged | DeltadexError], result: Rebuilt) -> None:
    result.without += not logged
    for one in logged:
        if isinstance(one, DeltadexError):
            result.problems.append((row.label, one.message))
            log.warning("not restored version=%s error=%r", row.label, one.message)
            continue
        stored = services.database.run(partial(embeddings.stored_vector, version_id=row.id, embedding=one.embedding))
        if stored is None:
            store_and_find(services, row, one.embedding, base_name=one.base_name, artifact_uri=one.artifact_uri)
            result.restored += 1
        elif _is_same(stored, one.embedding):
            result.unchanged += 1
        else:
            result.problems.append((row.label, f"the store has another vector than {one.artifact_uri}"))


def _is_same(stored: np.ndarray[Any, np.dtype[np.float32]], embedding: Embedding) -> bool:
    rounding = max(embedding.noise_floor or 0.0, _ROUNDING) * embedding.base_norm
    return bool(np.linalg.norm(stored - embedding.vector) <= rounding)


def _read(services: Services, row: VersionRow) -> list[_Logged | DeltadexError]:
    """Return a version's embeddings, the latest last, and the reasons why others can't be read."""
    found: list[_Logged | DeltadexError] = []
    with tempfile.TemporaryDirectory(prefix="deltadex-") as temporary:
        for uri, folder in logged_embeddings(services.registry, row.registered, Path(temporary)):
            try:
                manifest = read_manifest(folder)
                if _is_about(manifest, row.registered):
                    found.append(_logged(folder, manifest, uri))
            except EmbeddingError as error:
                found.append(EmbeddingError(f"{uri}: {error.message}", hint=error.hint))
    return sorted(found, key=lambda one: one.embedded_at if isinstance(one, _Logged) else "")


def _logged(folder: Path, manifest: dict[str, Any], uri: str) -> _Logged:
    if not isinstance(manifest.get("base"), str):
        raise EmbeddingError("the manifest names no base", hint="Embed the model version again.")
    # Those of earlier versions don't say when; they are older than those that do.
    return _Logged(read_artifact(folder), manifest["base"], uri, str(manifest.get("embedded_at", "")))


def _is_about(manifest: dict[str, Any], version: RegisteredVersion) -> bool:
    """Whether an embedding was made from this version; its model may have taken a new name since."""
    ref = version.ref
    is_it = (manifest.get("version"), manifest.get("created_ms")) == (ref.version, ref.created_ms)
    return is_it and (manifest.get("model") == ref.name or manifest.get("source") == version.source)
