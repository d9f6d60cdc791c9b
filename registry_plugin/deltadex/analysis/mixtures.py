"""A delta as a mixture of the domains' directions: "0.7 legal + 0.3 code, 12 % unexplained"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from deltadex.analysis.similarity import unit_vectors

#: A part stays only where the mixture without it would leave this much more of the delta unexplained.
LEAST_GAIN = 0.02


@dataclass(frozen=True, eq=False)
class Mixture:
    """A sparse non-negative combination of directions, and what it leaves over.

    Attributes
    ----------
    weights
        `(k,)` float64, of unit directions, for a delta of length 1; 0 for those that take no part.
    unexplained
        Share of the delta's squared norm that no such combination reaches: 0 to 1.
    """

    weights: NDArray[np.float64]
    unexplained: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """`(k,)`: the weights as shares of their sum; all 0 where nothing takes part."""
        total = self.weights.sum()
        return self.weights / total if total else self.weights


def mixture(vector: ArrayLike, directions: ArrayLike, *, least_gain: float = LEAST_GAIN) -> Mixture:
    """Find the combination by non-negative least squares, then drop what explains too little, least first.

    What all directions have in common needs no centring: a combination of them has it too.

    Parameters
    ----------
    vector
        `(d,)`, finite, not zero.
    directions
        `(k, d)`, of any length but zero.
    least_gain
        As `LEAST_GAIN`.
    """
    target = unit_vectors(np.asarray(vector)[None])[0]
    # Among k directions and a delta the problem has k + 1 dimensions, whatever the hidden size.
    both = np.column_stack([unit_vectors(directions).T, target])
    reduced = np.asarray(np.linalg.qr(both, mode="r"), dtype=np.float64)
    axes, goal = reduced[:, :-1], reduced[:, -1]
    weights, unexplained = _fitted(axes, goal, list(range(axes.shape[1])))
    while kept := [int(one) for one in np.flatnonzero(weights)]:
        without = [_fitted(axes, goal, [other for other in kept if other != one])[1] for one in kept]
        least = int(np.argmin(without))
        if without[least] - unexplained >= least_gain:
            break
        weights, unexplained = _fitted(axes, goal, kept[:least] + kept[least + 1 :])
    return Mixture(weights, unexplained)


def _fitted(axes: NDArray[np.float64], goal: NDArray[np.float64], kept: list[int]) -> tuple[NDArray[np.float64], float]:
    weights, rest = np.zeros(axes.shape[1]), 1.0
    if kept:
        weights[kept], rest = nnls(axes[:, kept], goal)
    return weights, min(1.0, float(rest) ** 2)
