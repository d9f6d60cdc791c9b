"""What a search is asked: vectors, or versions and sums of versions by their stored ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.domain import FloatArray
from deltadex.store.database import Transaction


@dataclass(frozen=True, eq=False)
class Questions:
    """Vectors of one recipe to find neighbours of, among the versions of one registry.

    Attributes
    ----------
    vectors
        `(n, dimension)` float32, of any length but zero.
    excluded
        Versions that are no answer to any of them.
    """

    recipe_id: int
    registry: str
    vectors: FloatArray
    excluded: frozenset[int] = frozenset()


def mixture(tx: Transaction, weights: Mapping[int, float], *, base: str | None = None) -> Questions | None:
    """Return the question after the neighbours of a weighted sum of versions, such as a merge of them would be.

    Parameters
    ----------
    weights
        By version id. All must have an embedding that may be compared, under one recipe and in one registry.

    Returns
    -------
    Questions or None
        None where there is no such recipe, or the sum is zero.
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
        select shared.*, model_version_id, vector from shared join current_embeddings using (recipe_id)
        where model_version_id = any(%(ids)s) and not is_weak and norm > 0
        """,
        {"ids": list(weights), "base": base, "count": len(weights)},
        binary=True,
    ).fetchall()
    if len(found) < len(weights):
        return None
    vector = sum(weights[version_id] * vector.to_numpy() for *_, version_id, vector in found)
    recipe_id, registry = found[0][:2]
    rows = np.asarray(vector, dtype=np.float32)[None]
    return Questions(recipe_id, registry, rows, frozenset(weights)) if rows.any() else None


def versions_of(tx: Transaction, ids: Sequence[int], *, recipe_id: int, registry: str) -> Questions:
    """Return the question after the neighbours of each of these versions, which will be among its own answers.

    All must have an embedding under the recipe that may be compared.
    """
    found = tx.execute(
        "select model_version_id, vector from current_embeddings where recipe_id = %s and model_version_id = any(%s)",
        [recipe_id, list(ids)],
        binary=True,
    )
    vectors = {version_id: vector.to_numpy() for version_id, vector in found}
    return Questions(recipe_id, registry, np.array([vectors[each] for each in ids], dtype=np.float32))
