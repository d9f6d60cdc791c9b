"""Layout of the map, computed in advance: t-SNE of 10,000 versions takes half a minute."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.map import queries as layouts
from deltadex.map.projection import extend, place_near, principal_plane, project
from deltadex.map.queries import Layout
from deltadex.settings import Settings
from deltadex.store import locks
from deltadex.store.database import Database, Transaction

#: A map of up to this many versions takes two seconds: it is laid out for every new version, or on demand by a page.
_QUICK = 1_000
#: On a larger map new versions are placed near their neighbours until they are this share of all versions.
_MOST_NEW = 0.05

log = logging.getLogger(__name__)


def lay_out(settings: Settings, database: Database) -> int:
    """Lay out every outdated map and return their number; does nothing while another process does so."""
    with database.transaction() as lock:
        if not locks.lock(lock, f"layout:{settings.registry}"):
            return 0
        recipes = database.run(lambda tx: embeddings.recipes(tx, settings.registry))
        return sum(_refresh(settings.registry, database, recipe) for recipe in recipes)


def places(tx: Transaction, registry: str, recipe: RecipeRow, stored: Layout) -> NDArray[np.float32]:
    """Return `(n, 2)` coordinates for every version of a layout, including those without a stored place.

    This is always quick: a large map without a layout is the plane of its principal components.
    """
    if stored.is_placed.all():
        return stored.coordinates
    vectors = embeddings.table(tx, recipe.id, registry=registry).vectors
    if stored.is_placed.any():
        return place_near(vectors, stored.coordinates)
    found = project(vectors) if len(vectors) <= _QUICK else principal_plane(vectors)
    return found.astype(np.float32)


def is_due(tx: Transaction, registry: str, recipe: RecipeRow) -> bool:
    """Return True if there are enough new versions for a new layout."""
    missing, count = layouts.count_missing(tx, recipe.id, registry)
    return missing > 0 and (count <= _QUICK or missing >= _MOST_NEW * count)


def _refresh(registry: str, database: Database, recipe: RecipeRow) -> bool:
    with database.transaction() as tx:
        if not is_due(tx, registry, recipe):
            return False
        table = embeddings.table(tx, recipe.id, registry=registry)
        stored = layouts.read(tx, recipe.id, registry)
    coordinates = extend(table.vectors, stored.coordinates)
    ids = [row.id for row in table.rows]
    with database.transaction() as tx:
        layouts.replace(tx, recipe.id, registry, ids=ids, coordinates=coordinates)
    log.info("laid out recipe=%s versions=%d", recipe.digest[:12], len(ids))
    return True
