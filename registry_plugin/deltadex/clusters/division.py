"""Division of clusters in which people declare several domains, where the models differ between these domains.

The cut of the whole dendrogram suits most clusters, and hides finer ones: two domains that are close to each other and
far from all others. Declared domains propose where to cut inside a cluster, and the geometry decides. A cluster is
divided if two conditions hold at the cut of its own dendrogram whose parts agree best with the declared domains:

- parts and declared domains have an adjusted Rand index of at least .5 (Hubert and Arabie 1985; 0 is chance);
- the mean silhouette of the parts, within the cluster, shows structure (Rousseeuw 1987).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deltadex.vectors import average_linkage, cosine_similarity, cut_tree, silhouettes, similarity_sums

#: Fewest versions that declare a domain for it to count; fewer may be mislabelled.
FEWEST_DECLARED = 3
#: Adjusted Rand index from which parts agree with the declared domains.
_LEAST_AGREEMENT = 0.5
#: Number of cuts inside a cluster that are tried, from the coarsest on.
_MOST_CUTS = 100


def divided(
    units: NDArray[np.float32],
    labels: NDArray[np.int64],
    declared: Sequence[str | None],
    *,
    min_silhouette: float,
    at_once: int,
) -> NDArray[np.int64]:
    """Return `(n,)` cluster numbers, with the parts of divided clusters under new numbers.

    Parameters
    ----------
    units, labels
        `(n, d)` unit vectors and their `(n,)` cluster numbers.
    declared
        Declared domain of each model; None if it declares none.
    at_once
        Most models of a cluster that is divided.
    """
    found, domains = labels.copy(), np.array([domain or "" for domain in declared])
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if _domain_count(domains[rows]) > 1 and len(rows) <= at_once:
            parts = _parts(cosine_similarity(units[rows]), domains[rows], min_silhouette)
            found[rows[parts > 0]] = found.max() + parts[parts > 0]
    return found


def _domain_count(domains: NDArray[np.str_]) -> int:
    return sum(count >= FEWEST_DECLARED for domain, count in Counter(domains.tolist()).items() if domain)


def _parts(similarity: NDArray[np.float64], domains: NDArray[np.str_], min_silhouette: float) -> NDArray[np.int64]:
    """Return the `(n,)` part of each member, 0 for all of a cluster that is not divided."""
    from sklearn.metrics import adjusted_rand_score  # large, and few clusters need it

    tree, says = average_linkage(similarity), domains != ""
    # Just below each of the topmost joins, the coarsest cut first, which wins ties.
    cuts = [cut_tree(tree, np.nextafter(height, -1)) for height in np.unique(tree[:, 2])[: -_MOST_CUTS - 1 : -1]]
    agreements = [adjusted_rand_score(domains[says], cut[says]) for cut in cuts]
    best = int(np.argmax(agreements))
    parts = cuts[best]
    if (
        agreements[best] < _LEAST_AGREEMENT
        or silhouettes(similarity_sums(similarity, parts), parts).mean() < min_silhouette
    ):
        return np.zeros(len(domains), dtype=np.int64)
    return _without_outliers(similarity, parts)


def _without_outliers(similarity: NDArray[np.float64], parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the parts, with members that are alone in one joined to the most similar part: a tag makes no outlier."""
    sizes = np.bincount(parts)
    mean = similarity_sums(similarity, parts) / sizes
    mean[:, sizes == 1] = -np.inf
    joined: NDArray[np.int64] = np.where(sizes[parts] == 1, mean.argmax(axis=1), parts)
    return np.unique(joined, return_inverse=True)[1].astype(np.int64)
