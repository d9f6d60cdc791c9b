"""All near duplicates of a recipe anew: after a threshold has changed, a backfill, or a doubt."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np

from deltadex import reviews
from deltadex.analysis.near_duplicates import Pairs, PairSearch, save_whole
from deltadex.comparing import calibration_of
from deltadex.errors import StoreError
from deltadex.settings import Settings
from deltadex.store import near_duplicates
from deltadex.store.database import Database
from deltadex.store.embeddings import RecipeRow
from deltadex.store.near_duplicates import Members, Replaced

#: Called with what is being done, the steps done and all of them.
Report = Callable[[str, int, int], None]


def recompute_near_duplicates(settings: Settings, database: Database, recipe: RecipeRow, report: Report) -> Replaced:
    """Compare all versions of a recipe with each other and make the findings what comes out.

    Killed at any point and called again, it goes on where it was, with the versions of that time: later ones were
    compared with all others as they arrived.

    Raises
    ------
    StoreError
        Another process is at it; or Postgres is away.
    """
    registry = settings.registry
    folder = settings.data_dir / "near-duplicates" / f"{quote(registry, safe='')}-{recipe.digest}"
    with _held(folder):
        members = _exported(database, recipe, registry, folder, report)
        with database.transaction() as tx:
            calibration = calibration_of(tx, recipe.id, registry, thresholds=settings.thresholds)
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        limits = calibration.near_similarity.value, calibration.same_task.value
        search = PairSearch(vectors, members["model"], folder, *limits)
        search.run(partial(report, "comparing"))
        pairs, tasks = (_by_id(blocks, members) for blocks in (search.pairs(), search.closest()))
        with database.transaction() as tx:
            replaced = near_duplicates.replace(
                tx, recipe.id, registry, members=members, pairs=pairs, tasks=tasks, calibration=calibration
            )
        database.run(lambda tx: reviews.follow_recomputed(tx, settings, recipe.id))
        shutil.rmtree(folder)
    return replaced


def _by_id(blocks: Iterable[Pairs], members: Members) -> Iterator[tuple[int, int, float]]:
    for block in blocks:
        for older, newer, similarity in block:
            yield int(members["id"][older]), int(members["id"][newer]), float(similarity)


def _exported(database: Database, recipe: RecipeRow, registry: str, folder: Path, report: Report) -> Members:
    """Return the members whose vectors lie in the folder, where none do after reading them from the store."""
    done = folder / "members-by-age.npy"
    if not done.exists():
        path = folder / "vectors.npy"
        with database.transaction() as tx:
            exported = near_duplicates.export(
                tx, recipe.id, registry, path=path, on_progress=partial(report, "reading")
            )
        save_whole(done, exported)
    members: Members = np.load(done)
    report("reading", len(members), len(members))
    return members


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go of it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the folder: whoever opened a lock in it would hold nothing once the folder is removed.
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"Another process recomputes near duplicates in {folder}",
                hint="Wait for it.",
                retryable=True,
            ) from None
        yield
