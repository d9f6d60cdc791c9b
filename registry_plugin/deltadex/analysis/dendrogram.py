"""A tree of few models: which join first, and at which similarity. Below about 20 models it says more than clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy

from deltadex.analysis.clusters import average_linkage, canonical_order
from deltadex.analysis.similarity import cosine_similarity


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """Average linkage of the models, ready to draw.

    Attributes
    ----------
    leaves
        `(n,)` int: the rows from left to right; models that join early stand beside each other.
    places, similarities
        `(n - 1, 4)` float64: the corners of each join, from the foot of its left leg to that of its right one: place
        among the leaves (0 to n - 1), and mean cosine similarity, which is 1 at a leaf.
    """

    leaves: NDArray[np.int64]
    places: NDArray[np.float64]
    similarities: NDArray[np.float64]


def dendrogram(vectors: ArrayLike) -> Dendrogram:
    """Join the models, two groups at a time, from the most similar on.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. The order of the rows changes nothing that can be seen.
    """
    rows = np.asarray(vectors)
    if len(rows) < 2:
        nothing = np.zeros((0, 4))
        return Dendrogram(np.arange(len(rows)), nothing, nothing)
    order = canonical_order(rows)
    tree = average_linkage(cosine_similarity(rows[order]))
    drawn = hierarchy.dendrogram(tree, no_plot=True, count_sort="ascending")
    # SciPy puts the leaves at 5, 15, 25 and so on.
    places = (np.array(drawn["icoord"]) - 5) / 10
    return Dendrogram(order[drawn["leaves"]], places, 1 - np.array(drawn["dcoord"]))
