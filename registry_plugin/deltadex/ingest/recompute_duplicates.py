"""Recomputation of all duplicates and repeated tasks of a recipe, e.g. after a threshold change or a backfill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
from filelock import FileLock, Timeout

from deltadex.duplicates import queries as near_duplicates
from deltadex.duplicates.all_pairs import Members, PairSearch, save_whole
from deltadex.duplicates.queries import Replaced
from deltadex.duplicates.regroup import regroup
from deltadex.embeddings.queries import RecipeRow
from deltadex.errors import StoreError
from deltadex.findings.thresholds import recalibrate
from deltadex.ingest.round import replace_findings
from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store.database import Database

#: Progress callback: called with the current activity, the steps done and the total.
Report = Callable[[str, int, int], None]


def recompute_near_duplicates(settings: Settings, database: Database, recipe: RecipeRow, report: Report) -> Replaced:
    """Compare all versions of a recipe with each other and replace the findings.

    Killed at any point and called again, it resumes with the versions that were exported then. Later versions were
    compared with all others on arrival.

    Raises
    ------
    StoreError
        Another process is recomputing this recipe, or Postgres is unavailable.
    """
    registry = settings.registry
    folder = settings.data_dir / "near-duplicates" / f"{quote(registry, safe='')}-{recipe.digest}"
    with _locked(folder):
        members = _exported(database, recipe, registry, folder, report)
        with database.transaction() as tx:
            calibration = recalibrate(tx, recipe.id, registry, thresholds=settings.thresholds)
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        limits = calibration.near_similarity.value, calibration.same_task.value
        search = PairSearch(vectors, members["model"], folder, *limits)
        search.run(partial(report, "comparing"))
        with database.transaction() as tx:
            replaced = replace_findings(tx, recipe.id, registry, search, members, calibration=calibration)
            regroup(tx, settings)
        database.run(lambda tx: reviews.follow_recomputed(tx, settings, recipe.id))
        shutil.rmtree(folder)
    return replaced


def _exported(database: Database, recipe: RecipeRow, registry: str, folder: Path, report: Report) -> Members:
    """Return the members whose vectors are in the folder; export them from the store first if there are none."""
    members_file = folder / "members-by-age.npy"
    if not members_file.exists():
        path = folder / "vectors.npy"
        with database.transaction() as tx:
            exported = near_duplicates.export(
                tx, recipe.id, registry, path=path, on_progress=partial(report, "reading")
            )
        save_whole(members_file, exported)
    members: Members = np.load(members_file)
    report("reading", len(members), len(members))
    return members


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder for this process; the kernel releases the lock when the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the folder: a lock inside it would be lost when the folder is removed.
    lock = FileLock(folder.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"Another process recomputes near duplicates in {folder}",
            hint="Wait for it.",
            retryable=True,
        ) from None
    try:
        yield
    finally:
        lock.release()
