"""Whether a delta says enough to be compared: its strength beside the noise, and whether the probes agree on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: A delta is this many times stronger than the noise, or it is not placed. Noise of a fifth of a delta takes two
#: embeddings of one model to a similarity of 1 / (1 + 1 / 25) = .96, just inside what counts as a near duplicate.
NOISE_MARGIN = 5.0


def lowest_strength(at_least: float, noise_floor: float | None) -> float:
    """Return the strength below which a version can't be placed.

    Parameters
    ----------
    at_least
        The lowest in any recipe.
    noise_floor
        As in `deltadex.domain.Embedding`; None where nobody measured it.
    """
    return max(at_least, NOISE_MARGIN * (noise_floor or 0.0))


def noise_distance(one: ArrayLike, other: ArrayLike, noise_floor: float | None) -> NDArray[np.float64]:
    """Return the cosine distance between embeddings of equal direction that noise alone makes of it.

    Noise of length f is nearly orthogonal to a delta of length s in a space of this many dimensions, so it leaves a
    similarity of 1 / sqrt(1 + (f / s)²) to the delta itself, and the product of two such ones between two embeddings.

    Parameters
    ----------
    one, other
        Strengths, as in `deltadex.domain.Embedding`.
    """
    floor = noise_floor or 0.0
    kept = [1 + np.square(_over(floor, np.asarray(strength, dtype=np.float64))) for strength in (one, other)]
    distance: NDArray[np.float64] = 1 - 1 / np.sqrt(kept[0] * kept[1])
    return distance


def _over(floor: float, strength: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(floor, strength, out=np.full_like(strength, np.inf if floor else 0.0), where=strength > 0)
