"""Stored map coordinates, with strength and cluster of each version. No query here reads a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.clusters import queries as clusters
from deltadex.clusters.partition import ALONE
from deltadex.clusters.queries import ClusterRow
from deltadex.store.database import Transaction
from deltadex.types import FloatArray


@dataclass(frozen=True, eq=False)
class Layout:
    """The placeable versions of one recipe and registry, in the order of their ids.

    Attributes
    ----------
    ids
        `(n,)` rows of `model_versions`.
    coordinates
        `(n, 2)` float32; NaN for a version that has no place yet.
    strengths
        `(n,)` float32; see `deltadex.types.Embedding`.
    labels
        `(n,)` indices into `clusters`, -1 for a version in none of them.
    clusters
        Clusters of the latest run, by number; empty if there is none.
    """

    ids: NDArray[np.int64]
    coordinates: FloatArray
    strengths: FloatArray
    labels: NDArray[np.int64]
    clusters: tuple[ClusterRow, ...]

    @property
    def is_placed(self) -> NDArray[np.bool_]:
        """`(n,)`: True for versions that have a place."""
        return np.isfinite(self.coordinates[:, 0])


def read(tx: Transaction, recipe_id: int, registry: str) -> Layout:
    """Return the stored layout."""
    found = tx.execute(
        """
        select model_version_id, x, y, coalesce(norm / nullif(base_norm, 0), 0), cluster_id
        from comparable_embeddings
        left join layouts using (recipe_id, model_version_id, weights_digest)
        left join cluster_assignments using (recipe_id, model_version_id)
        where recipe_id = %(recipe_id)s and registry = %(registry)s
        order by model_version_id
        """,
        {"recipe_id": recipe_id, "registry": registry},
    ).fetchall()
    known = clusters.listing(tx, recipe_id, registry)
    label_of = {cluster.id: label for label, cluster in enumerate(known)} | {None: ALONE}
    numbers = np.array([row[1:4] for row in found], dtype=np.float32).reshape(len(found), 3)
    return Layout(
        np.array([row[0] for row in found], dtype=np.int64),
        numbers[:, :2],
        numbers[:, 2],
        np.array([label_of[row[4]] for row in found], dtype=np.int64),
        tuple(known),
    )


def count_missing(tx: Transaction, recipe_id: int, registry: str) -> tuple[int, int]:
    """Return the number of versions without a place, and the number of all versions."""
    row = tx.execute(
        """
        select count(*) filter (where x is null), count(*)
        from comparable_embeddings
        left join layouts using (recipe_id, model_version_id, weights_digest)
        where recipe_id = %s and registry = %s
        """,
        [recipe_id, registry],
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def replace(
    tx: Transaction, recipe_id: int, registry: str, *, ids: Sequence[int], coordinates: NDArray[np.floating]
) -> None:
    """Store the coordinates of one recipe in one registry; they replace the stored ones.

    Parameters
    ----------
    coordinates
        `(n, 2)`, parallel to `ids`.
    """
    tx.execute(
        """
        delete from layouts using model_versions
        where id = model_version_id and recipe_id = %s and registry = %s
        """,
        [recipe_id, registry],
    )
    x, y = np.asarray(coordinates, dtype=np.float64).reshape(-1, 2).T.tolist()
    tx.execute(
        """
        insert into layouts (recipe_id, model_version_id, weights_digest, x, y)
        select recipe_id, model_version_id, current_embeddings.weights_digest, x, y
        from unnest(%(ids)s::bigint[], %(x)s::real[], %(y)s::real[]) as placed (model_version_id, x, y)
        join current_embeddings using (model_version_id) where recipe_id = %(recipe_id)s
        """,
        {"ids": list(ids), "x": x, "y": y, "recipe_id": recipe_id},
    )
