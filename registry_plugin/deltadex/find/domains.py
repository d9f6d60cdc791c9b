"""The domain of a task: whether the registry has it, and which one it is.

Similarities of neighbours alone can't tell a missing domain once a registry has many: some relative is always close. So
deltas are seen from the middle of all domains, and directions in which versions of one domain differ count less:
they are whitened by the covariance within domains, as in linear discriminant analysis. Chosen and measured by
`python -m benchmarks.real --part find`; see docs/find.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.clusters import queries as clusters
from deltadex.store.database import Transaction
from deltadex.types import FloatArray
from deltadex.vectors import unit_vectors

#: With fewer domains the nearest version alone tells better.
FEWEST_DOMAINS = 12
#: Share of the largest variance within domains that is added to all of them: few members show few directions.
_RIDGE = 0.03
#: Members that are read of all domains together, and the fewest of each.
_MOST_MEMBERS, _FEWEST_OF_EACH = 1_000, 2

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class DomainScore:
    """The nearest domain of a delta.

    Attributes
    ----------
    domain_id
        Its number.
    score
        Its whitened cosine similarity plus the lead over the second domain's: from -1 to 3.
    """

    domain_id: int
    score: float


@dataclass(frozen=True, eq=False)
class DomainDirections:
    """Whitened directions of at least two domains.

    Attributes
    ----------
    ids
        Number of each domain.
    centre
        `(dimension,)` mean of the domains' means of unit vectors.
    within
        `(n, dimension)` principal directions of the differences within domains, of length one.
    scales
        `(n,)` factors of these directions; all others have the factor one.
    directions
        `(n_domains, dimension)` whitened means of the domains, of length one.
    """

    ids: tuple[int, ...]
    centre: Matrix
    within: Matrix
    scales: Matrix
    directions: Matrix

    @classmethod
    def of(cls, vectors: FloatArray | Matrix, domain_ids: NDArray[np.int64]) -> DomainDirections:
        """Return the directions of domains from `(n, dimension)` deltas of members, of any length."""
        members, ids = unit_vectors(vectors.astype(float)), np.unique(domain_ids)
        means = np.stack([members[domain_ids == one].mean(0) for one in ids])
        differences = members - means[np.searchsorted(ids, domain_ids)]
        _, lengths, within = np.linalg.svd(differences, full_matrices=False)
        ridge = _RIDGE * lengths[0] ** 2
        scales = np.sqrt(ridge / (lengths**2 + ridge)) if ridge else np.ones_like(lengths)
        centre = means.mean(0)
        return cls(tuple(ids.tolist()), centre, within, scales, unit_vectors(_whitened(means - centre, within, scales)))

    def nearest(self, delta: FloatArray | Matrix) -> DomainScore:
        """Return the nearest domain of a `(dimension,)` delta of any length."""
        [unit] = unit_vectors(delta[None].astype(float))
        [seen] = unit_vectors(_whitened((unit - self.centre)[None], self.within, self.scales))
        similarities = self.directions @ seen
        second, first = np.argsort(similarities)[-2:]
        return DomainScore(self.ids[first], float(2 * similarities[first] - similarities[second]))


def _whitened(vectors: Matrix, within: Matrix, scales: Matrix) -> Matrix:
    return vectors + ((vectors @ within.T) * (scales - 1)) @ within


def directions(tx: Transaction, recipe_id: int, registry: str, *, count: int) -> DomainDirections | None:
    """Return the directions of a registry's `count` stored domains; None if there are fewer than `FEWEST_DOMAINS`."""
    if count < FEWEST_DOMAINS:
        return None
    of_each = max(_FEWEST_OF_EACH, _MOST_MEMBERS // count)
    ids, vectors = clusters.newest_members(tx, recipe_id, registry, of_each=of_each)
    return DomainDirections.of(vectors, ids) if len(np.unique(ids)) >= FEWEST_DOMAINS else None
