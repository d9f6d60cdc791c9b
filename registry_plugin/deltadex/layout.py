"""The map, laid out ahead of its being looked at: t-SNE of 10,000 versions takes half a minute."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from deltadex.analysis.projection import place_near, principal_plane, project
from deltadex.domain import FloatArray
from deltadex.settings import Settings
from deltadex.store import embeddings, layouts, watchers
from deltadex.store.database import Database, Transaction
from deltadex.store.embeddings import RecipeRow
from deltadex.store.layouts import Layout

#: Up to here a map is laid out anew for every new version, or while it is waited for: it takes two seconds.
_QUICK = 1_000
#: Beyond, new versions lie near their neighbours until they are this share of all.
_MOST_NEW = 0.05

log = logging.getLogger(__name__)


def lay_out(settings: Settings, database: Database) -> int:
    """Lay out every recipe's map that is out of date, and return how many were; none where somebody else is at it."""
    with database.transaction() as lock:
        if not watchers.lock(lock, f"layout:{settings.registry}"):
            return 0
        recipes = database.run(lambda tx: embeddings.recipes(tx, settings.registry))
        return sum(_refresh(settings.registry, database, recipe) for recipe in recipes)


def places(tx: Transaction, registry: str, recipe: RecipeRow, stored: Layout) -> NDArray[np.float32]:
    """Return `(n, 2)` coordinates for every version of a layout, those without a stored place included.

    Quick whatever the number: a large map that nobody laid out yet is the plane of its principal components.
    """
    if stored.is_placed.all():
        return stored.coordinates
    vectors = embeddings.table(tx, recipe.id, registry=registry).vectors
    if stored.is_placed.any():
        return place_near(vectors, stored.coordinates)
    found = project(vectors) if len(vectors) <= _QUICK else principal_plane(vectors)
    return found.astype(np.float32)


def _refresh(registry: str, database: Database, recipe: RecipeRow) -> bool:
    with database.transaction() as tx:
        missing, count = layouts.count_missing(tx, recipe.id, registry)
        if not missing or (count > _QUICK and missing < _MOST_NEW * count):
            return False
        table = embeddings.table(tx, recipe.id, registry=registry)
    vectors: FloatArray = table.vectors
    coordinates = project(vectors)
    ids = [row.id for row in table.rows]
    with database.transaction() as tx:
        layouts.replace(tx, recipe.id, registry, ids=ids, coordinates=coordinates)
    log.info("laid out recipe=%s versions=%d", recipe.digest[:12], count)
    return True
