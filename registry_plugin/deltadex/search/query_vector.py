"""Query vectors of a search: given ones, stored ones of versions, and weighted sums of these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.store.database import Transaction
from deltadex.types import FloatArray


@dataclass(frozen=True, eq=False)
class Questions:
    """Query vectors of one recipe, whose neighbours are searched among the versions of one registry.

    Attributes
    ----------
    vectors
        `(n, dimension)` float32, not normalised, none of them zero.
    excluded
        Ids of versions that are never returned.
    """

    recipe_id: int
    registry: str
    vectors: FloatArray
    excluded: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """Embeddings of versions under the latest recipe that all of them share, by version id."""

    recipe_id: int
    recipe_digest: str
    base_name: str
    registry: str
    vectors: Mapping[int, FloatArray]


def stored_vectors(tx: Transaction, ids: Collection[int], *, base: str | None = None) -> StoredVectors | None:
    """Return the embeddings of versions of one registry under one recipe.

    Parameters
    ----------
    base
        Only a recipe of the base of this name.

    Returns
    -------
    StoredVectors or None
        None if there is no such recipe, or a version is too weak to place.
    """
    found = tx.execute(
        """
        with shared as (
            select recipe_id, registry from current_embeddings
            join model_versions on model_versions.id = model_version_id join recipes on recipes.id = recipe_id
            where model_version_id = any(%(ids)s) and base_name = coalesce(%(base)s, base_name)
            group by recipe_id, registry having count(*) = %(count)s
            order by max(current_since) desc, recipe_id desc limit 1
        )
        select recipe_id, recipes.digest, base_name, registry, model_version_id, vector
        from shared join current_embeddings using (recipe_id) join recipes on recipes.id = recipe_id
        where model_version_id = any(%(ids)s) and has_direction
        """,
        {"ids": list(ids), "base": base, "count": len(ids)},
        binary=True,
    ).fetchall()
    if len(found) < len(ids):
        return None
    recipe_id, recipe_digest, base_name, registry = found[0][:4]
    vectors = {version_id: vector.to_numpy() for *_, version_id, vector in found}
    return StoredVectors(recipe_id, recipe_digest, base_name, registry, vectors)


def mixture(tx: Transaction, weights: Mapping[int, float], *, base: str | None = None) -> Questions | None:
    """Return the weighted sum of versions as a query, which is close to the embedding of their merge.

    Parameters
    ----------
    weights
        Weights by version id. All versions need a comparable embedding under one recipe and in one registry.

    Returns
    -------
    Questions or None
        None if there is no such recipe or the sum is zero.
    """
    stored = stored_vectors(tx, weights, base=base)
    if stored is None:
        return None
    vector = sum(weights[version_id] * vector for version_id, vector in stored.vectors.items())
    rows = np.asarray(vector, dtype=np.float32)[None]
    return Questions(stored.recipe_id, stored.registry, rows, frozenset(weights)) if rows.any() else None


def direction_of(tx: Transaction, version_id: int, *, recipe_id: int) -> FloatArray | None:
    """Return the `(dimension,)` vector of a version under a recipe; None if it has none, or a too weak one."""
    row = tx.execute(
        "select vector from current_embeddings where recipe_id = %s and model_version_id = %s and has_direction",
        [recipe_id, version_id],
        binary=True,
    ).fetchone()
    if row is None:
        return None
    vector: FloatArray = row[0].to_numpy()
    return vector


def versions_of(tx: Transaction, ids: Sequence[int], *, recipe_id: int, registry: str) -> Questions:
    """Return the vectors of versions as queries. Each version is among its own results.

    All versions need a comparable embedding under the recipe.
    """
    found = tx.execute(
        "select model_version_id, vector from current_embeddings where recipe_id = %s and model_version_id = any(%s)",
        [recipe_id, list(ids)],
        binary=True,
    )
    vectors = {version_id: vector.to_numpy() for version_id, vector in found}
    return Questions(recipe_id, registry, np.array([vectors[each] for each in ids], dtype=np.float32))
