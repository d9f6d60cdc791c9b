"""Rebuild of the store from the artifacts on MLflow's runs, after a loss or as a check."""

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

from deltadex.app import App
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.artifact import read_artifact, read_manifest, seal_fault
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.ingest import discovery
from deltadex.ingest.record import Embedded, store_and_find
from deltadex.registry.run_artifact import logged_embeddings
from deltadex.registry.training_metadata import provenance_of
from deltadex.types import UNDER_WAY, Embedding, RegisteredVersion, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions

#: Number of concurrent reads from MLflow, and number of versions held in memory.
_READERS, _BATCH = 4, 64
#: Differences up to this fraction of the base's norm count as rounding: two machines may have embedded one version.
_ROUNDING = 1e-5

log = logging.getLogger(__name__)


@dataclass
class Rebuilt:
    """Result of a rebuild.

    Attributes
    ----------
    restored, unchanged
        Number of embeddings missing from the store, and number already there.
    without
        Number of versions with no embedding on their run; they are embedded like new ones.
    again
        Version and reason for each one that is embedded again, because no artifact of it is sealed with our key.
    problems
        Version and reason for each embedding that is damaged or differs from the one in the store.
    """

    restored: int = 0
    unchanged: int = 0
    without: int = 0
    again: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Logged:
    embedding: Embedding
    base_name: str
    artifact_uri: str
    embedded_at: str
    seal_fault: str


def rebuild(app: App, *, on_progress: Callable[[int, int], None]) -> Rebuilt:
    """Store the logged embeddings that are missing from the store; nothing in the store is replaced.

    Who may edit a run can replace its artifacts. Only those that `Settings.sealing_key` sealed are restored; versions
    without one are embedded again.

    May be repeated and interrupted. Decisions, clusters and state histories are in no artifact and are not restored.

    Raises
    ------
    RegistryError, StoreError
        The registry or the store is unavailable. A single unreadable version is listed in `problems`.
    """
    discovery.claim(app, takes_over=True)
    discovery.sweep(app)
    rows = app.database.run(lambda tx: versions.listing(tx, app.registry.name, states=set(State) - {State.DELETED}))
    result = Rebuilt()
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            for row, logged in zip(batch, readers.map(partial(_read, app), batch), strict=True):
                _restore(app, row, logged, result)
            on_progress(start + len(batch), len(rows))
    return result


def _restore(app: App, row: VersionRow, logged: list[_Logged | DeltadexError], result: Rebuilt) -> None:
    result.without += not logged
    is_known, faults = False, list[str]()
    for one in logged:
        if isinstance(one, DeltadexError):
            result.problems.append((row.label, one.message))
            log.warning("not restored version=%s error=%r", row.label, one.message)
            continue
        stored = app.database.run(partial(embeddings.stored_vector, version_id=row.id, embedding=one.embedding))
        if stored is None and one.seal_fault:
            faults.append(one.seal_fault)
            continue
        is_known = True
        if stored is None:
            known = provenance_of(app.registry.run_of(row.registered), weights_bytes=None)
            store_and_find(app, [Embedded(row, one.embedding, one.base_name, one.artifact_uri, known)])
            result.restored += 1
        elif _is_equal(stored, one.embedding):
            result.unchanged += 1
        else:
            result.problems.append((row.label, f"the store has another vector than {one.artifact_uri}"))
    if faults and not is_known:
        result.again.append((row.label, faults[-1]))
        log.warning("not restored version=%s error=%r", row.label, faults[-1])
        if row.state not in UNDER_WAY:
            app.database.run(partial(transitions.requeue, version_id=row.id, reason=f"its artifact: {faults[-1]}"))


def _is_equal(stored: np.ndarray[Any, np.dtype[np.float32]], embedding: Embedding) -> bool:
    rounding = max(embedding.noise_floor or 0.0, _ROUNDING) * embedding.base_norm
    return bool(np.linalg.norm(stored - embedding.vector) <= rounding)


def _read(app: App, row: VersionRow) -> list[_Logged | DeltadexError]:
    """Return a version's logged embeddings, latest last, with an error in place of each unreadable one."""
    found: list[_Logged | DeltadexError] = []
    key = app.settings.sealing_key
    with tempfile.TemporaryDirectory(prefix="deltadex-") as temporary:
        for uri, folder in logged_embeddings(app.registry, row.registered, Path(temporary)):
            try:
                manifest = read_manifest(folder)
                if _describes(manifest, row.registered):
                    found.append(_logged(folder, manifest, uri, key))
            except EmbeddingError as error:
                found.append(EmbeddingError(f"{uri}: {error.message}", hint=error.hint))
    return sorted(found, key=lambda one: one.embedded_at if isinstance(one, _Logged) else "")


def _logged(folder: Path, manifest: dict[str, Any], uri: str, key: bytes | None) -> _Logged:
    if not isinstance(manifest.get("base"), str):
        raise EmbeddingError("the manifest names no base", hint="Embed the model version again.")
    # Early releases wrote no date; those embeddings are older than all dated ones.
    date = str(manifest.get("embedded_at", ""))
    return _Logged(read_artifact(folder), manifest["base"], uri, date, seal_fault(manifest, key))


def _describes(manifest: dict[str, Any], version: RegisteredVersion) -> bool:
    """Return whether the manifest describes this version, whose model may have been renamed since."""
    ref = version.ref
    is_same_version = (manifest.get("version"), manifest.get("created_ms")) == (ref.version, ref.created_ms)
    return is_same_version and (manifest.get("model") == ref.name or manifest.get("source") == version.source)
