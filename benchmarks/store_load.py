"""Load tests of the store: versions that arrive one by one or concurrently, stored by the flow's own function."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.store_company import BASE_NORM, LIMIT, REGISTRY, Company
from benchmarks.synthetic_vectors import Matrix
from deltadex.app import App, open_app
from deltadex.findings import queries as findings
from deltadex.ingest.record import Embedded, store_and_find
from deltadex.registry.client import Registry
from deltadex.scheduler import load_scheduler
from deltadex.search import neighbors as search
from deltadex.setting_groups import DatabaseSettings, ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import Embedding, FindingKind, ModelVersionRef, Recipe, RegisteredVersion, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions

WRITERS = READERS = 8
#: Address of registry and scheduler, which are not used here; nothing listens on it.
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Load:
    """Results of concurrent writers and readers.

    Attributes
    ----------
    lost
        Versions without an embedding, and pairs of duplicates without a finding.
    changed_answers
        Answers that differ from those to the same queries without load.
    """

    writes_per_second: float
    reads_per_second: float
    lost: int
    changed_answers: int


def app(company: Company, folder: Path) -> App:
    """Return the opened connections that the pipeline needs."""
    settings = Settings(
        data_dir=folder,
        registry=REGISTRY,
        tracking_uri=_NOWHERE,
        prefect_api_url=f"{_NOWHERE}/api",
        database=DatabaseSettings(url=company.database.url),
        thresholds=ThresholdSettings(near_duplicate_similarity=0.95),
    )
    return App(settings, company.database, Registry(_NOWHERE, name=REGISTRY), load_scheduler(settings))


def store_seconds(company: Company, app: App, count: int) -> list[float]:
    """Return the seconds for storing each of `count` new versions; every other one is a near duplicate."""
    generator = np.random.default_rng(2)
    seconds = []
    for number in range(count):
        vector = company.vectors[generator.integers(len(company.vectors))]
        noise = _noise(generator, company.recipe.dimension, float(np.linalg.norm(vector)))
        row = _discovered(app, f"new-{number}")
        started = time.perf_counter()
        _store(company.recipe, app, row, vector + 0.1 * noise if number % 2 else noise)
        seconds.append(time.perf_counter() - started)
    return seconds


def under_load(company: Company, app: App, rows: Sequence[int], *, each: int) -> Load:
    """Let every writer store `each` versions while readers repeatedly query `rows`, each in its own process.

    The writers' n-th versions are near duplicates of each other only, so all pairs of them must be found.
    """
    generator = np.random.default_rng(3)
    originals = np.stack([_noise(generator, company.recipe.dimension, 5.0) for _ in range(each)])
    arriving = [[_discovered(app, f"writer-{writer}-{number}") for number in range(each)] for writer in range(WRITERS)]
    expected = {version_id: _answer(company.database, version_id) for version_id in company.ids[list(rows)].tolist()}
    # The fork server imports everything once and opens no connection that its children would share.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    written, ready = processes.Event(), processes.Barrier(WRITERS + READERS)
    shared = (app.settings, written, ready)
    with ProcessPoolExecutor(WRITERS + READERS, mp_context=processes, initializer=_share, initargs=shared) as pool:
        reading = [pool.submit(_read, expected) for _ in range(READERS)]
        writing = [pool.submit(_write, company.recipe, row, originals) for row in arriving]
        try:
            seconds = max(future.result() for future in writing)
        finally:
            written.set()
        answers = [future.result() for future in reading]
    return Load(
        WRITERS * each / seconds,
        sum(queries for queries, _ in answers) / seconds,
        lost=_lost(company, arriving),
        changed_answers=sum(changed for _, changed in answers),
    )


_shared: tuple[Settings, Event, Barrier]


def _share(*shared: Any) -> None:
    global _shared
    _shared = shared  # type: ignore[assignment]


def _write(recipe: Recipe, rows: Sequence[VersionRow], originals: Matrix) -> float:
    """Store versions and return the seconds, from the moment when all processes are ready."""
    settings, _, ready = _shared
    generator = np.random.default_rng(rows[0].id)
    with open_app(settings) as app:
        ready.wait()
        started = time.perf_counter()
        for row, original in zip(rows, originals, strict=True):
            _store(recipe, app, row, original + 0.1 * _noise(generator, recipe.dimension, 5.0))
        return time.perf_counter() - started


def _read(expected: Mapping[int, list[int]]) -> tuple[int, int]:
    """Query until the writers are done; return the numbers of queries and of unexpected answers."""
    settings, written, ready = _shared
    queries = changed = 0
    with Database(settings.database_url) as database:
        ready.wait()
        for version_id, answer in itertools.cycle(expected.items()):
            if written.is_set():
                break
            changed += _answer(database, version_id) != answer
            queries += 1
    return queries, changed


def _lost(company: Company, arriving: Sequence[Sequence[VersionRow]]) -> int:
    expected = {
        tuple(sorted((one[number].id, other[number].id)))
        for index, one in enumerate(arriving)
        for other in arriving[index + 1 :]
        for number in range(len(one))
    }
    ids = [row.id for rows in arriving for row in rows]
    with company.database.transaction() as tx:
        found = findings.listing(tx, REGISTRY, kinds=[FindingKind.NEAR_DUPLICATE])
        stored = tx.execute(
            "select count(*) from current_embeddings where model_version_id = any(%s)", [ids]
        ).fetchone()
    pairs = {tuple(sorted((row.finding.other_id or 0, row.finding.version_id))) for row in found}
    return len(ids) - (stored[0] if stored else 0) + len(expected - pairs)


def _answer(database: Database, version_id: int) -> list[int]:
    with database.transaction() as tx:
        found = search.neighbors(tx, version_id, k=LIMIT)
    return [neighbor.version.id for neighbor in found.neighbors]


def _discovered(app: App, name: str) -> VersionRow:
    ref = ModelVersionRef(REGISTRY, name, 1, round(time.time() * 1000))
    with app.database.transaction() as tx:
        [version_id] = transitions.discover(tx, [RegisteredVersion(ref, f"runs:/synthetic/{name}")], fresh_since_ms=0)
        return versions.get(tx, version_id)


def _store(recipe: Recipe, app: App, row: VersionRow, vector: Matrix) -> None:
    embedding = Embedding(recipe, vector[None], BASE_NORM, weights_digest=row.label)
    store_and_find(app, [Embedded(row, embedding, "synthetic", row.registered.source)])


def _noise(generator: np.random.Generator, dimension: int, norm: float) -> Matrix:
    """Return a random vector with this norm."""
    vector = generator.standard_normal(dimension, dtype=np.float32)
    noise: Matrix = vector * np.float32(norm / np.linalg.norm(vector))
    return noise
