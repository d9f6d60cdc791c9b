"""The largest scale: how many directions all models span, and whether they gather in clusters.

Any few points in many dimensions have an uneven spectrum (arXiv 2410.19750, section 5): each number stands beside
what as many random directions in as many dimensions give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln

from deltadex.analysis.geometry.chance import Measured, Refusal, content_order, generator, measured
from deltadex.analysis.similarity import unit_vectors

#: From here on a planted count of directions was found again (tests/analysis/geometry/test_galaxy.py).
FEWEST_MODELS = 12
#: Ten planted clusters are seen in 60 models, seven in 30, and in 19 only in a quarter of the cases.
FEWEST_FOR_ENTROPY = 30
#: Clustering entropy beyond chance, in nats, from which it is clusters. Simulated, in means over 40 seeds: two to ten
#: planted clusters .75 to 8 (ten in 30 models only .4), odd clouds without any up to .21. A p-value alone will not do:
#: it calls up to two thirds of such clouds clustered, where few directions fill the sphere.
CLUSTERED_NATS = 0.5
_DRAWS = 199
#: Directions that the entropy is estimated in: one per this many models, within these bounds.
_MODELS_PER_DIRECTION = 10
_FEWEST_DIRECTIONS, _MOST_DIRECTIONS = 2, 5
_NEIGHBOR = 3
#: Eigenvalues below this share of the largest are rounding, and so are differences in these decimals.
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
        Each of the `min(n - 1, d)` principal directions' share of the variance, largest first; sums to 1.
    chance
        For each of them: 2.5 %, 50 % and 97.5 % quantiles of the same in the null of equal `n` and `d`.
    directions
        How many leading shares are above 97.5 % of those of their rank in the null: parallel analysis (Horn 1965).
    explained
        The share of the variance in these directions.
    effective
        The participation ratio of the spectrum, 1 / sum of squared shares; fewer is more than chance.
    slope
        Of log share over log rank, by least squares; steeper is more than chance.
    entropy
        Clustering entropy in nats: how far the entropy in the leading directions lies below that of a normal
        distribution of the same covariance; larger is more than chance, here a cloud of the same extent. Read its size,
        not its p-value alone: see `CLUSTERED_NATS`.
    """

    models: int
    dimension: int
    spectrum: tuple[float, ...]
    chance: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    directions: int
    explained: float
    effective: Measured
    slope: Measured
    entropy: Measured | Refusal

    @property
    def meaning(self) -> str:
        """Say in a sentence what it means for the registry."""
        if not self.directions:
            return (
                f"Your {self.models} models show no direction in common: each differs from the others in its own way."
            )
        noun = "direction" if self.directions == 1 else "directions"
        return (
            f"Your {self.models} models span about {self.directions} independent {noun}, which hold "
            f"{self.explained:.0%} of how they differ. {self._clustering}"
        )

    @property
    def _clustering(self) -> str:
        if isinstance(self.entropy, Refusal):
            return self.entropy.meaning
        if self.entropy.is_found and self.entropy.value - self.entropy.chance.median >= CLUSTERED_NATS:
            return "Within them they gather in clusters, more than a cloud of this shape would."
        return "Within them they spread like one cloud: nothing says that there are separate clusters."


def galaxy(vectors: ArrayLike) -> Galaxy | Refusal:
    """Measure the shape of all models together.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe, one row for each registered model. Their order changes nothing.
    """
    units = unit_vectors(vectors)
    units = units[content_order(units, names=[""] * len(units))]
    count, dimension = units.shape
    different = len(np.unique(units.round(_DECIMALS), axis=0))
    if different < FEWEST_MODELS:
        return Refusal("How many directions the models span", "different models", different, FEWEST_MODELS)
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


def _clustering(units: Matrix, directions: int) -> Measured | Refusal:
    """Compare with clouds without clusters: each model as far from the middle as it is, in a random direction.

    So neither a cloud's uneven extent, nor that unit vectors lie on a sphere, is taken for clusters.
    """
    count = len(units)
    if count < FEWEST_FOR_ENTROPY:
        return Refusal("Whether they gather in clusters", "models", count, FEWEST_FOR_ENTROPY)
    kept = max(_FEWEST_DIRECTIONS, min(_MOST_DIRECTIONS, count // _MODELS_PER_DIRECTION, directions))
    common = unit_vectors(units.mean(axis=0, keepdims=True))
    points = _whitened(units - units @ common.T * common, kept)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    random = generator()
    clouds = (lengths * unit_vectors(random.standard_normal(points.shape)) for _ in range(_DRAWS))
    return measured(_entropy_gap(points), [_entropy_gap(_whitened(cloud, kept)) for cloud in clouds])


def _whitened(rows: Matrix, kept: int) -> Matrix:
    """Return `(n, at most kept)` coordinates along the leading principal directions, each of variance 1."""
    scores, lengths, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    kept = min(kept, int((lengths > _ZERO * lengths[0]).sum()))
    points: Matrix = scores[:, :kept] * np.sqrt(len(rows))
    return points


def _entropy_gap(points: Matrix) -> float:
    """Return the standard normal distribution's entropy less that of the points, in nats.

    The points' by the distances to their third neighbours (Kozachenko and Leonenko 1987).
    """
    count, size = points.shape
    distances = KDTree(points).query(points, k=_NEIGHBOR + 1)[0][:, -1]
    ball = size / 2 * np.log(np.pi) - gammaln(size / 2 + 1)
    own = digamma(count) - digamma(_NEIGHBOR) + ball + size * np.log(np.maximum(distances, _ZERO)).mean()
    return float(size / 2 * np.log(2 * np.pi * np.e) - own)
