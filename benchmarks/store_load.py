"""Versions that arrive one by one and many at a time, through the very function that the flow calls."""

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
from deltadex.domain import Embedding, FindingKind, ModelVersionRef, Recipe, RegisteredVersion, VersionRow
from deltadex.mlflow_edge.registry import Registry
from deltadex.pipeline import store_and_find
from deltadex.scheduler import load_scheduler
from deltadex.services import Services, open_services
from deltadex.settings import DatabaseSettings, Settings
from deltadex.store import findings, search, version_changes, versions
from deltadex.store.database import Database

WRITERS = READERS = 8
#: Nothing of the registry or the scheduler is used here, and nothing listens there.
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Load:
    """What writers and readers at the same time came to.

    Attributes
    ----------
    lost
        Versions without an embedding, and pairs of duplicates without a finding.
    changed_answers
        Answers that were not what the same question gets when nothing else goes on.
    """

    writes_per_second: float
    reads_per_second: float
    lost: int
    changed_answers: int


def services(company: Company, folder: Path) -> Services:
    """Return what the pipeline asks for."""
    settings = Settings(
        data_dir=folder,
        registry=REGISTRY,
        tracking_uri=_NOWHERE,
        prefect_api_url=f"{_NOWHERE}/api",
        database=DatabaseSettings(url=company.database.url),
    )
    return Services(settings, company.database, Registry(_NOWHERE, name=REGISTRY), load_scheduler(settings))


def store_seconds(company: Company, services: Services, count: int) -> list[float]:
    """Return how long each of `count` new versions took; every other one nearly equals one that is there."""
    generator = np.random.default_rng(2)
    seconds = []
    for number in range(count):
        vector = company.vectors[generator.integers(len(company.vectors))]
        noise = _noise(generator, company.recipe.dimension, float(np.linalg.norm(vector)))
        row = _discovered(services, f"new-{number}")
        begun = time.perf_counter()
        _store(company.recipe, services, row, vector + 0.1 * noise if number % 2 else noise)
        seconds.append(time.perf_counter() - begun)
    return seconds


def under_load(company: Company, services: Services, rows: Sequence[int], *, each: int) -> Load:
    """Let every writer store `each` versions while readers ask about `rows` again and again, each in a process.

    The writers' n-th versions nearly equal each other and nothing else, so all pairs of them must be found.
    """
    generator = np.random.default_rng(3)
    originals = np.stack([_noise(generator, company.recipe.dimension, 5.0) for _ in range(each)])
    arriving = [
        [_discovered(services, f"writer-{writer}-{number}") for number in range(each)] for writer in range(WRITERS)
    ]
    expected = {version_id: _answer(company.database, version_id) for version_id in company.ids[list(rows)].tolist()}
    # The server imports everything once and opens nothing: its children neither wait nor share a connection.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    written, ready = processes.Event(), processes.Barrier(WRITERS + READERS)
    shared = (services.settings, written, ready)
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
        sum(asked for asked, _ in answers) / seconds,
        lost=_lost(company, arriving),
        changed_answers=sum(changed for _, changed in answers),
    )


_shared: tuple[Settings, Event, Barrier]


def _share(*shared: Any) -> None:
    global _shared
    _shared = shared  # type: ignore[assignment]


def _write(recipe: Recipe, rows: Sequence[VersionRow], originals: Matrix) -> float:
    """Return how long it took, from when everybody was ready."""
    settings, _, ready = _shared
    generator = np.random.default_rng(rows[0].id)
    with open_services(settings) as services:
        ready.wait()
        begun = time.perf_counter()
        for row, original in zip(rows, originals, strict=True):
            _store(recipe, services, row, original + 0.1 * _noise(generator, recipe.dimension, 5.0))
        return time.perf_counter() - begun


def _read(expected: Mapping[int, list[int]]) -> tuple[int, int]:
    """Return how many questions were asked, and how many answers were not as expected."""
    settings, written, ready = _shared
    asked = changed = 0
    with Database(settings.database_url) as database:
        ready.wait()
        for version_id, answer in itertools.cycle(expected.items()):
            if written.is_set():
                break
            changed += _answer(database, version_id) != answer
            asked += 1
    return asked, changed


def _lost(company: Company, arriving: Sequence[Sequence[VersionRow]]) -> int:
    expected = {
        tuple(sorted((one[number].id, other[number].id)))
        for place, one in enumerate(arriving)
        for other in arriving[place + 1 :]
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


def _discovered(services: Services, name: str) -> VersionRow:
    ref = ModelVersionRef(REGISTRY, name, 1, round(time.time() * 1000))
    with services.database.transaction() as tx:
        [version_id] = version_changes.discover(
            tx, [RegisteredVersion(ref, f"runs:/synthetic/{name}")], fresh_since_ms=0
        )
        return versions.get(tx, version_id)


def _store(recipe: Recipe, services: Services, row: VersionRow, vector: Matrix) -> None:
    embedding = Embedding(recipe, vector[None], BASE_NORM, weights_digest=row.label)
    store_and_find(services, row, embedding, base_name="synthetic", artifact_uri=row.registered.source)


def _noise(generator: np.random.Generator, dimension: int, norm: float) -> Matrix:
    """Return a vector of this norm that resembles no other."""
    vector = generator.standard_normal(dimension, dtype=np.float32)
    noise: Matrix = vector * np.float32(norm / np.linalg.norm(vector))
    return noise
