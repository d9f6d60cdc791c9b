"""Decomposition of a delta into domain directions, such as "0.7 legal + 0.3 code, 12 % unexplained"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from deltadex.vectors import unit_vectors

#: A part is dropped if the unexplained share would grow by less than this without it.
LEAST_GAIN = 0.02


@dataclass(frozen=True, eq=False)
class Mixture:
    """A sparse non-negative combination of directions, and its residual.

    Attributes
    ----------
    weights
        `(k,)` float64 weights of unit directions, for a delta of length 1; 0 for directions that are not used.
    unexplained
        Share of the delta's squared norm in the residual, 0 to 1.
    """

    weights: NDArray[np.float64]
    unexplained: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """`(k,)` weights as shares of their sum; all 0 if no direction is used."""
        total = self.weights.sum()
        return self.weights / total if total else self.weights


def mixture(vector: ArrayLike, directions: ArrayLike) -> Mixture:
    """Return the non-negative least-squares combination, after dropping parts that explain too little, least first.

    Centring is not needed: a component that all directions share is in their combinations too.

    Parameters
    ----------
    vector
        `(d,)`, finite, not zero.
    directions
        `(k, d)`, of any nonzero length.
    """
    target = unit_vectors(np.asarray(vector)[None])[0]
    # Reduce to the k + 1 dimensions that the directions and the delta span.
    both = np.column_stack([unit_vectors(directions).T, target])
    reduced = np.asarray(np.linalg.qr(both, mode="r"), dtype=np.float64)
    axes, goal = reduced[:, :-1], reduced[:, -1]
    weights, unexplained = _fit(axes, goal, list(range(axes.shape[1])))
    while used := [int(column) for column in np.flatnonzero(weights)]:
        without = [_fit(axes, goal, [other for other in used if other != column])[1] for column in used]
        least = int(np.argmin(without))
        if without[least] - unexplained >= LEAST_GAIN:
            break
        weights, unexplained = _fit(axes, goal, used[:least] + used[least + 1 :])
    return Mixture(weights, unexplained)


def _fit(axes: NDArray[np.float64], goal: NDArray[np.float64], used: list[int]) -> tuple[NDArray[np.float64], float]:
    """Return the weights of all columns, 0 for those not used, and the unexplained share."""
    weights, residual = np.zeros(axes.shape[1]), 1.0
    if used:
        weights[used], residual = nnls(axes[:, used], goal)
    return weights, min(1.0, float(residual) ** 2)
