"""Dendrogram of a recipe's models. Below about 20 models it is more informative than clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy

from deltadex.access import Person
from deltadex.embeddings import queries as embeddings
from deltadex.store.database import Transaction
from deltadex.vectors import average_linkage, canonical_order, cosine_similarity


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """Average linkage of the models, ready to draw.

    Attributes
    ----------
    leaves
        `(n,)` int: row numbers from left to right.
    places, similarities
        `(n - 1, 4)` float64: the corners of each join, from the foot of its left leg to that of its right leg, as
        position among the leaves (0 to n - 1) and mean cosine similarity (1 at a leaf).
    """

    leaves: NDArray[np.int64]
    places: NDArray[np.float64]
    similarities: NDArray[np.float64]


def dendrogram(vectors: ArrayLike) -> Dendrogram:
    """Return the dendrogram of the models, by average linkage.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. The drawing does not depend on the order of the rows.
    """
    rows = np.asarray(vectors)
    if len(rows) < 2:
        no_joins = np.zeros((0, 4))
        return Dendrogram(np.arange(len(rows)), no_joins, no_joins)
    order = canonical_order(rows)
    tree = average_linkage(cosine_similarity(rows[order]))
    drawn = hierarchy.dendrogram(tree, no_plot=True, count_sort="ascending")
    # SciPy puts the leaves at 5, 15, 25 and so on.
    places = (np.array(drawn["icoord"]) - 5) / 10
    return Dendrogram(order[drawn["leaves"]], places, 1 - np.array(drawn["dcoord"]))


def joins(
    tx: Transaction, viewer: Person, recipe_id: int, registry: str, *, ids: Sequence[int] | None = None
) -> tuple[Dendrogram, list[str], NDArray[np.float64]]:
    """Return the dendrogram of versions, their labels as a viewer may see them, and their `(n, n)` similarities.

    Parameters
    ----------
    ids
        The versions; None for all of the recipe.
    """
    table = embeddings.table(tx, recipe_id, registry=registry, ids=ids)
    labels = [row.label for row in viewer.view_each(table.rows)]
    return dendrogram(table.vectors), labels, cosine_similarity(table.vectors)
