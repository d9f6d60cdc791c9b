"""Strategies for vectors of one recipe."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray


def vectors(min_rows: int = 0, max_rows: int = 8, dimension: int = 4) -> st.SearchStrategy[NDArray[np.float32]]:
    """`(n, dimension)` float32 on a coarse grid, so that ties, zeros and equal rows come up often."""
    elements = st.integers(-3, 3).map(float)
    return st.integers(min_rows, max_rows).flatmap(lambda n: arrays(np.float32, (n, dimension), elements=elements))


def families(sizes: list[int], *, seed: int = 0, dimension: int = 32, spread: float = 0.2) -> NDArray[np.float32]:
    """Rows of several families: a random direction each, with noise of `spread` around it."""
    generator = np.random.default_rng(seed)
    centres = [generator.normal(size=dimension) for _ in sizes]
    rows = [
        centre + spread * generator.normal(size=dimension)
        for centre, size in zip(centres, sizes, strict=True)
        for _ in range(size)
    ]
    return np.array(rows, dtype=np.float32)
