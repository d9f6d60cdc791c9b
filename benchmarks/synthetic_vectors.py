"""Synthetic embeddings with a plausible structure: nested clusters, and noise in the upper dimensions.

No model is involved. A vector shares components with all others, with its domain and with its family (finetunes on the
same data). These lie mostly in the lower dimensions, some of which are outliers, as in hidden states. Its own noise
fills all dimensions. Some vectors are slight changes of another one, like retrained versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]

CHUNK = 5_000
_RETRAINED = 0.1
#: Dimension from which the structure fades, and number and scale of the outlier dimensions.
_LOWER, _OUTLIERS, _OUTLIER_SCALE = 128, 4, 6.0
#: Shares of a vector's squared norm; the rest is its own, half of it spread evenly over all dimensions.
_COMMON, _DOMAIN = 0.15, 0.25
_FAMILY = (0.15, 0.45)


@dataclass(frozen=True)
class SyntheticVectors:
    """A repeatable stream of `count` vectors of `dimension` numbers, in families of `family_size` on average."""

    count: int
    dimension: int
    seed: int = 0
    domains: int = 20
    family_size: int = 50

    def chunks(self) -> Iterator[Matrix]:
        """Yield `(up to CHUNK, dimension)` float32, not normalised."""
        for rows, _, _ in self.labelled_chunks():
            yield rows

    def labelled_chunks(self) -> Iterator[tuple[Matrix, Labels, Labels]]:
        """Yield the chunks with the domain and the family of each row, `(up to CHUNK,)` each."""
        generator = np.random.default_rng(self.seed)
        scale = self._scale(generator)
        common = _directions(generator, scale, 1)
        domains = _directions(generator, scale, self.domains)
        families = _directions(generator, scale, max(1, self.count // self.family_size))
        domain_of = generator.integers(self.domains, size=len(families))
        tightness = generator.uniform(*_FAMILY, size=len(families)).astype(np.float32)
        # A few families are large, as a company's favourite dataset is.
        popularity = generator.dirichlet(np.full(len(families), 0.5))
        for start in range(0, self.count, CHUNK):
            size = min(CHUNK, self.count - start)
            family = generator.choice(len(families), size=size, p=popularity)
            share = tightness[family, None]
            own = (1 - _COMMON - _DOMAIN - share) / 2
            rows = _COMMON**0.5 * common + _DOMAIN**0.5 * domains[domain_of[family]]
            rows += np.sqrt(share) * families[family]
            rows += np.sqrt(own) * _directions(generator, scale, size)
            rows += np.sqrt(own) * _directions(generator, np.ones_like(scale), size)
            family = self._retrain(generator, rows, family)
            yield rows * generator.uniform(2, 20, size=(size, 1)).astype(np.float32), domain_of[family], family

    def _scale(self, generator: np.random.Generator) -> Matrix:
        scale = 1 / np.sqrt(1 + np.arange(self.dimension) / _LOWER)
        scale[generator.choice(min(_LOWER, self.dimension), size=_OUTLIERS, replace=False)] *= _OUTLIER_SCALE
        return scale.astype(np.float32)

    def _retrain(self, generator: np.random.Generator, rows: Matrix, family: Labels) -> Labels:
        """Replace some rows by slight changes of others (cosine similarity .95 to 1); return all rows' families."""
        copies = int(len(rows) * _RETRAINED)
        sources = generator.integers(copies, len(rows), size=copies) if copies < len(rows) else np.arange(0)
        change = np.sqrt(generator.uniform(0, 0.1, size=(copies, 1))).astype(np.float32)
        rows[:copies] = rows[sources] + change * _directions(generator, np.ones(self.dimension, np.float32), copies)
        family[:copies] = family[sources]
        order = np.arange(len(rows))
        generator.shuffle(order)
        rows[:] = rows[order]
        return family[order]


def _directions(generator: np.random.Generator, scale: Matrix, count: int) -> Matrix:
    rows = generator.standard_normal((count, len(scale)), dtype=np.float32) * scale
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
