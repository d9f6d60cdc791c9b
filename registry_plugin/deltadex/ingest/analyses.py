"""Schedule for the analyses of all versions (clusters, geometry, map): due dates and one run at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from deltadex.app import App
from deltadex.clusters import runs as cluster_runs
from deltadex.embeddings import queries as embeddings
from deltadex.geometry import measure
from deltadex.map import layout
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.store.locks import SessionLock
from deltadex.versions import transitions

log = logging.getLogger(__name__)


def are_due(tx: Transaction, settings: Settings) -> bool:
    """Return whether labels, clusters, geometry or map of any recipe are out of date."""
    registry = settings.registry
    return bool(transitions.relabelled(tx, registry)) or any(
        cluster_runs.is_due(tx, settings, recipe)
        or measure.is_due(tx, registry, recipe)
        or layout.is_due(tx, registry, recipe)
        for recipe in embeddings.recipes(tx, registry)
    )


def submit_analyses(app: App) -> str | None:
    """Start a flow run if analyses are due and return its id; None if they aren't, or if a run is still going."""
    if not app.database.run(lambda tx: are_due(tx, app.settings)):
        return None
    with one_run(app) as is_free:
        # Release the lock before the run starts: the run takes it itself.
        pass
    run_id = app.scheduler.submit_analyses() if is_free else None
    if run_id:
        log.info("started the analyses run=%s", run_id)
    return run_id


@contextmanager
def one_run(app: App) -> Iterator[bool]:
    """Try to lock the analyses of this registry for the block, and yield whether the lock was free.

    A run that dies releases the lock at once, even if Prefect still shows it as running.
    """
    with SessionLock(app.database, f"analyses:{app.registry.name}") as lock:
        yield lock.hold()
