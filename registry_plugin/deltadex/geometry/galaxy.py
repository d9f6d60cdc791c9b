"""The galaxy, the largest scale: the number of directions that all models span, and their tendency to cluster.

A few points in many dimensions always have an uneven spectrum (arXiv 2410.19750, section 5). Therefore each number is
compared with that of equally many random directions in the same number of dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln

from deltadex.geometry.chance import NumberByChance, Refusal, content_order, generator, measured
from deltadex.vectors import unit_vectors

#: With this many models a planted number of directions was recovered (tests/geometry/test_galaxy.py).
FEWEST_MODELS = 12
#: Ten planted clusters are detected among 60 models, seven among 30; among 19 models only in a quarter of the cases.
FEWEST_FOR_ENTROPY = 30
#: Clustering entropy above chance, in nats, from which models count as clustered. Simulated, means over 40 seeds: two
#: to ten planted clusters measure .75 to 8 (ten in 30 models only .4), irregular clouds without clusters up to .21. A
#: p-value alone is not enough: it calls up to two thirds of such clouds clustered when they have few directions.
CLUSTERED_NATS = 0.5
_DRAWS = 199
#: The entropy is estimated in one direction per this many models, within these bounds.
_MODELS_PER_DIRECTION = 10
_FEWEST_DIRECTIONS, _MOST_DIRECTIONS = 2, 5
_NEIGHBOR = 3
#: Eigenvalues below this share of the largest are rounding errors, and so are differences beyond these decimals.
_ZERO, _DECIMALS = 1e-10, 6

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Galaxy:
    """The shape of all models together, as unit vectors around their mean.

    Attributes
    ----------
    models, dimension
        `n` and `d`.
    spectrum
        Share of the variance of each of the `min(n - 1, d)` principal directions, largest first; sums to 1.
    chance
        The 2.5 %, 50 % and 97.5 % quantiles of each share in the null of equal `n` and `d`.
    directions
        Number of leading shares above the 97.5 % quantile of their rank in the null: parallel analysis (Horn 1965).
    explained
        Share of the variance in these directions.
    effective
        Participation ratio of the spectrum, 1 / sum of squared shares; small values are the extreme ones.
    slope
        Least-squares slope of log share over log rank; steeper (more negative) values are the extreme ones.
    entropy
        Clustering entropy in nats: the entropy of a normal distribution of the same covariance less the entropy of the
        models in the leading directions. Large values are the extreme ones; the null is a cloud of the same extent.
        Look at its size, not only at its p-value: see `CLUSTERED_NATS`.
    """

    models: int
    dimension: int
    spectrum: tuple[float, ...]
    chance: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    directions: int
    explained: float
    effective: NumberByChance
    slope: NumberByChance
    entropy: NumberByChance | Refusal

    @property
    def meaning(self) -> str:
        """One or two sentences on what the result means for the registry."""
        if not self.directions:
            return (
                f"Your {self.models} models have no direction in common: each differs from the others in its own way."
            )
        noun = "direction" if self.directions == 1 else "directions"
        return (
            f"Your {self.models} models span about {self.directions} independent {noun}, which explain "
            f"{self.explained:.0%} of their differences. {self._clustering}"
        )

    @property
    def _clustering(self) -> str:
        if isinstance(self.entropy, Refusal):
            return self.entropy.meaning
        if self.entropy.is_found and self.entropy.value - self.entropy.chance.median >= CLUSTERED_NATS:
            return "Within these directions the models form clusters, more than one cloud of this shape would."
        return "Within these directions the models form one cloud: there is no evidence of separate clusters."


def galaxy(vectors: ArrayLike) -> Galaxy | Refusal:
    """Measure the shape of all models together.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe, one row per registered model. The result does not depend on their order.
    """
    units = unit_vectors(vectors)
    units = units[content_order(units, names=[""] * len(units))]
    count, dimension = units.shape
    different = len(np.unique(units.round(_DECIMALS), axis=0))
    if different < FEWEST_MODELS:
        return Refusal("The number of directions", "different models", different, FEWEST_MODELS)
    shares = _shares(units)
    random = generator()
    null = np.array([_shares(_isotropic(count, dimension, random)) for _ in range(_DRAWS)])
    chance = np.quantile(null, (0.025, 0.5, 0.975), axis=0)
    above = shares > chance[2]
    directions = int(np.argmin(above)) if not above.all() else len(above)
    return Galaxy(
        models=count,
        dimension=dimension,
        spectrum=tuple(shares.tolist()),
        chance=(tuple(chance[0].tolist()), tuple(chance[1].tolist()), tuple(chance[2].tolist())),
        directions=directions,
        explained=float(shares[:directions].sum()),
        effective=measured(float(_participation(shares)), _participation(null), larger=False),
        slope=measured(float(_slope(shares)), _slope(null), larger=False),
        entropy=_clustering(units, directions),
    )


def _shares(rows: Matrix) -> Matrix:
    """Return `(min(n - 1, d),)` shares of the variance, largest first."""
    centred = unit_vectors(rows)
    centred = centred - centred.mean(axis=0)
    count, dimension = centred.shape
    gram = centred @ centred.T if count <= dimension else centred.T @ centred
    values = np.maximum(np.linalg.eigvalsh(gram)[::-1][: min(count - 1, dimension)], 0)
    shares: Matrix = values / max(values.sum(), np.finfo(float).tiny)
    return shares


def _participation(shares: Matrix) -> Matrix:
    ratio: Matrix = 1 / np.maximum(np.square(shares).sum(axis=-1), np.finfo(float).tiny)
    return ratio


def _slope(shares: Matrix) -> Matrix:
    """Return the least-squares slope of log share over log rank, along the last axis."""
    ranks = np.log(np.arange(1, shares.shape[-1] + 1))
    ranks -= ranks.mean()
    logs = np.log(np.maximum(shares, _ZERO * shares.max(axis=-1, keepdims=True) + np.finfo(float).tiny))
    slope: Matrix = logs @ ranks / (ranks @ ranks)
    return slope


def _isotropic(count: int, dimension: int, random: np.random.Generator) -> Matrix:
    """Return rows whose scalar products are those of `(count, dimension)` standard normal ones (Bartlett 1933)."""
    if count > dimension:
        return random.standard_normal((count, dimension))
    rows = np.tril(random.standard_normal((count, count)), k=-1)
    np.fill_diagonal(rows, np.sqrt(random.chisquare(dimension - np.arange(count))))
    return rows


def _clustering(units: Matrix, directions: int) -> NumberByChance | Refusal:
    """Compare with clouds without clusters: each model keeps its distance from the centre, in a random direction.

    Thus neither an uneven extent of the cloud nor the sphere on which unit vectors lie counts as clusters.
    """
    count = len(units)
    if count < FEWEST_FOR_ENTROPY:
        return Refusal("Clusters within these directions", "models", count, FEWEST_FOR_ENTROPY)
    size = max(_FEWEST_DIRECTIONS, min(_MOST_DIRECTIONS, count // _MODELS_PER_DIRECTION, directions))
    common = unit_vectors(units.mean(axis=0, keepdims=True))
    points = _whitened(units - units @ common.T * common, size)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    random = generator()
    clouds = (lengths * unit_vectors(random.standard_normal(points.shape)) for _ in range(_DRAWS))
    return measured(_entropy_gap(points), [_entropy_gap(_whitened(cloud, size)) for cloud in clouds])


def _whitened(rows: Matrix, size: int) -> Matrix:
    """Return `(n, at most size)` coordinates along the leading principal directions, each of variance 1."""
    scores, lengths, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    size = min(size, int((lengths > _ZERO * lengths[0]).sum()))
    points: Matrix = scores[:, :size] * np.sqrt(len(rows))
    return points


def _entropy_gap(points: Matrix) -> float:
    """Return the entropy of the standard normal distribution less that of the points, in nats.

    The entropy of the points is estimated from the distances to their third neighbours (Kozachenko and Leonenko 1987).
    """
    count, size = points.shape
    distances = KDTree(points).query(points, k=_NEIGHBOR + 1)[0][:, -1]
    ball = size / 2 * np.log(np.pi) - gammaln(size / 2 + 1)
    own = digamma(count) - digamma(_NEIGHBOR) + ball + size * np.log(np.maximum(distances, _ZERO)).mean()
    return float(size / 2 * np.log(2 * np.pi * np.e) - own)
