"""How a registered model moves from version to version."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.analysis.similarity import unit_vectors


@dataclass(frozen=True)
class DriftStep:
    """The step from one version to the next.

    Attributes
    ----------
    distance
        Cosine distance to the version before, in [0, 2].
    norm_ratio
        Norm of the delta over that of the version before; None where that one was zero.
    from_first
        Cosine distance to the first version, in [0, 2].
    """

    distance: float
    norm_ratio: float | None
    from_first: float


def drift(vectors: ArrayLike) -> list[DriftStep]:
    """Return the `n - 1` steps between consecutive rows.

    Parameters
    ----------
    vectors
        `(n, d)`, finite: the embeddings of one registered model under one recipe, oldest version first.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    units = unit_vectors(rows)
    norms = np.linalg.norm(rows, axis=1)
    return [
        DriftStep(
            distance=_distance(units[step], units[step - 1]),
            norm_ratio=float(norms[step] / norms[step - 1]) if norms[step - 1] else None,
            from_first=_distance(units[step], units[0]),
        )
        for step in range(1, len(rows))
    ]


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.clip(1.0 - one @ other, 0.0, 2.0))
