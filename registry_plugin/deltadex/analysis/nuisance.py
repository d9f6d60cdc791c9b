"""Takes out of deltas what training settings explain: two models of one task differ less then (issue 5, point 7).

Rates, ranks, epochs and numbers of examples move every finetune, whatever it is trained on; so does having been
trained at all. A ridge regression of the deltas' directions on the settings finds that movement without knowing any
domain, and what it predicts for a model is subtracted from that model's direction (or the movement's own directions are
projected out of it). `benchmarks.nuisance` measures what each step is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.analysis.similarity import unit_vectors

#: A number that is positive and acts by its logarithm, a category, or None where the run did not log it.
Setting = float | str | None
Matrix = NDArray[np.float64]

#: Added to the variance of the standardised settings: one that moves nothing explains nothing by chance.
RIDGE = 0.1


class Removal(StrEnum):
    """What is done with the movement that was found."""

    RESIDUAL = "residual"
    PROJECTION = "projection"


@dataclass(frozen=True)
class Numbers:
    """Standardised logarithms of one setting; what is missing or not positive counts as the mean."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: Sequence[Setting]) -> Numbers:
        """Learn mean and standard deviation; of equal numbers the deviation counts as 1."""
        logarithms = _logarithms(values)
        known = logarithms[np.isfinite(logarithms)]
        if not len(known) or not np.ptp(known):  # mean and deviation of equal numbers would have rounding errors
            return cls(float(known[0]) if len(known) else 0.0, 1.0)
        return cls(float(known.mean()), float(known.std()))

    def columns(self, values: Sequence[Setting]) -> Matrix:
        """Return `(n, 1)`."""
        return np.nan_to_num((_logarithms(values) - self.mean) / self.deviation)[:, None]


@dataclass(frozen=True)
class Categories:
    """One column for each category, centred; a model of an unknown category counts as the mean."""

    names: tuple[str, ...]
    shares: tuple[float, ...]

    @classmethod
    def fit(cls, values: Sequence[Setting]) -> Categories:
        """Learn the categories and how common each is."""
        known = [value for value in values if isinstance(value, str)]
        names = tuple(sorted(set(known)))
        return cls(names, tuple(known.count(name) / len(known) for name in names))

    def columns(self, values: Sequence[Setting]) -> Matrix:
        """Return `(n, n_categories)`."""
        shares = np.asarray(self.shares)
        rows = [np.equal(self.names, value) - shares if value in self.names else 0 * shares for value in values]
        return np.stack(rows) if rows else np.zeros((0, len(shares)))


@dataclass(frozen=True, eq=False)
class Nuisance:
    """How training settings move the directions of deltas.

    Attributes
    ----------
    settings
        By name, how each is read.
    own_norm
        How the delta's own L2 norm is read; None where it is no setting.
    mean
        `(d,)`: where all unit deltas of the fit point on average.
    movement
        `(k, d)`: by how much each column of the settings moves a unit delta.
    ridge
        As it was fitted with.
    """

    settings: Mapping[str, Numbers | Categories]
    own_norm: Numbers | None
    mean: NDArray[np.float64]
    movement: Matrix
    ridge: float = RIDGE

    @classmethod
    def fit(
        cls,
        vectors: ArrayLike,
        settings: Sequence[Mapping[str, Setting]],
        *,
        names: Sequence[str],
        own_norm: bool = False,
        ridge: float = RIDGE,
    ) -> Nuisance:
        """Learn from models that are trained on anything; no domain is asked for.

        Parameters
        ----------
        vectors
            `(n, d)` deltas, finite, all of one recipe, not normalised.
        settings
            Of each model; what lacks a name does not know it.
        names
            The settings to account for.
        own_norm
            Account for the delta's own norm too. It is no setting: where domains differ in strength it takes away
            what tells them apart.
        ridge
            Share of a standardised setting's variance that is added to it, against fitting noise.
        """
        rows, read = np.asarray(vectors, dtype=np.float64), {name: _reader(settings, name) for name in names}
        unfitted = cls(read, Numbers.fit(_norms(rows)) if own_norm else None, np.zeros(0), np.zeros((0, 0)))
        columns, units = unfitted._columns(rows, settings), unit_vectors(rows)
        mean = units.mean(0)
        gram = columns.T @ columns + ridge * len(rows) * np.eye(columns.shape[1])
        return cls(read, unfitted.own_norm, mean, np.linalg.solve(gram, columns.T @ (units - mean)), ridge)

    def remove(
        self, vectors: ArrayLike, settings: Sequence[Mapping[str, Setting]], *, removal: Removal = Removal.RESIDUAL
    ) -> Matrix:
        """Return `(n, d)`: unit deltas less their mean and what the settings explain; not of length 1 any more."""
        rows = np.asarray(vectors, dtype=np.float64)
        centred = unit_vectors(rows) - self.mean
        if removal is Removal.RESIDUAL:
            return centred - self._columns(rows, settings) @ self.movement
        directions = self._directions()
        return centred - centred @ directions.T @ directions

    def explained(self, vectors: ArrayLike, settings: Sequence[Mapping[str, Setting]]) -> float:
        """Return the share of the unit deltas' variance that the settings explain in models left out of the fit.

        The fit without one model follows from the fit with all (the leverage of a ridge regression), so that each
        is foretold by the others. Not above 0 where settings foretell nothing.

        Parameters
        ----------
        vectors, settings
            What this was fitted to.
        """
        rows = np.asarray(vectors, dtype=np.float64)
        columns, centred = self._columns(rows, settings), unit_vectors(rows) - self.mean
        gram = columns.T @ columns + self.ridge * len(rows) * np.eye(columns.shape[1])
        mean_only = 1 - 1 / len(rows)
        leverage = np.einsum("nk,nk->n", columns @ np.linalg.inv(gram), columns)
        missed = np.square((centred - columns @ self.movement) / (mean_only - leverage)[:, None]).sum()
        return float(1 - missed / np.square(centred / mean_only).sum())

    def _directions(self) -> Matrix:
        """Return `(≤ k, d)` orthonormal rows that span the movement."""
        _, strengths, rows = np.linalg.svd(self.movement, full_matrices=False)
        kept: Matrix = rows[strengths > 1e-9 * strengths.max(initial=1e-300)]
        return kept

    def _columns(self, rows: Matrix, settings: Sequence[Mapping[str, Setting]]) -> Matrix:
        columns = [read.columns([each.get(name) for each in settings]) for name, read in self.settings.items()]
        norm = [self.own_norm.columns(_norms(rows))] if self.own_norm else []
        return np.concatenate([np.zeros((len(rows), 0)), *columns, *norm], axis=1)


def _reader(settings: Sequence[Mapping[str, Setting]], name: str) -> Numbers | Categories:
    values = [each.get(name) for each in settings]
    return (Categories if any(isinstance(value, str) for value in values) else Numbers).fit(values)


def _logarithms(values: Sequence[Setting]) -> NDArray[np.float64]:
    usable = [value if isinstance(value, (int, float)) and value > 0 else np.nan for value in values]
    return np.log(np.asarray(usable, dtype=np.float64))


def _norms(rows: Matrix) -> list[Setting]:
    return [float(norm) for norm in np.linalg.norm(rows, axis=1)]
