"""Removal of the effect of training settings from deltas, so that models of one task differ less.

Learning rate, rank, epochs and the number of examples move every finetune, independent of its training data; so does
training itself. A ridge regression of the deltas' directions on the settings finds this movement without domains. Its
prediction for a model is subtracted from the model's direction, or the directions of the movement are projected out.
`benchmarks.nuisance` measures the effect of each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.vectors import unit_vectors

#: A positive number, used by its logarithm; a category; or None if the run did not log the setting.
Setting = float | str | None
Matrix = NDArray[np.float64]

#: Added to the variance of the standardised settings, so that settings without effect explain nothing by chance.
RIDGE = 0.1


class Removal(StrEnum):
    """Method of removing the movement."""

    RESIDUAL = "residual"
    PROJECTION = "projection"


@dataclass(frozen=True)
class Numbers:
    """Standardised logarithms of one setting; missing and non-positive values count as the mean."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: Sequence[Setting]) -> Numbers:
        """Learn mean and standard deviation; equal numbers get the deviation 1."""
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
        """Learn the categories and their shares."""
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
    """Movement of the directions of deltas by training settings.

    Attributes
    ----------
    settings
        Encoder of each setting, by name.
    own_norm
        Encoder of the delta's own L2 norm; None if it is not used as a setting.
    mean
        `(d,)`: mean of the unit deltas of the fit.
    movement
        `(k, d)`: movement of a unit delta by each column of the settings.
    ridge
        Ridge of the fit.
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
        """Learn from models of any domains; the domains are not used.

        Parameters
        ----------
        vectors
            `(n, d)` deltas, finite, all of one recipe, not normalised.
        settings
            Settings of each model; missing names count as unknown.
        names
            Names of the settings to account for.
        own_norm
            Account for the delta's own norm too. This removes differences between domains if they differ in strength.
        ridge
            Share of a standardised setting's variance that is added to it, against overfitting.
        """
        rows, encoders = np.asarray(vectors, dtype=np.float64), {name: _encoder(settings, name) for name in names}
        unfitted = cls(encoders, Numbers.fit(_norms(rows)) if own_norm else None, np.zeros(0), np.zeros((0, 0)))
        columns, units = unfitted._columns(rows, settings), unit_vectors(rows)
        mean = units.mean(0)
        gram = columns.T @ columns + ridge * len(rows) * np.eye(columns.shape[1])
        return cls(encoders, unfitted.own_norm, mean, np.linalg.solve(gram, columns.T @ (units - mean)), ridge)

    def remove(
        self, vectors: ArrayLike, settings: Sequence[Mapping[str, Setting]], *, removal: Removal = Removal.RESIDUAL
    ) -> Matrix:
        """Return `(n, d)`: unit deltas minus their mean and the effect of the settings; their length is no longer 1."""
        rows = np.asarray(vectors, dtype=np.float64)
        centred = unit_vectors(rows) - self.mean
        if removal is Removal.RESIDUAL:
            return centred - self._columns(rows, settings) @ self.movement
        directions = self._directions()
        return centred - centred @ directions.T @ directions

    def explained(self, vectors: ArrayLike, settings: Sequence[Mapping[str, Setting]]) -> float:
        """Return the share of the unit deltas' variance that the settings explain in models left out of the fit.

        The fit without one model follows from the fit with all of them (leverage of a ridge regression), so each model
        is predicted by the others. The share is at most 0 if settings predict nothing.

        Parameters
        ----------
        vectors, settings
            Vectors and settings of the fit.
        """
        rows = np.asarray(vectors, dtype=np.float64)
        columns, centred = self._columns(rows, settings), unit_vectors(rows) - self.mean
        gram = columns.T @ columns + self.ridge * len(rows) * np.eye(columns.shape[1])
        mean_only = 1 - 1 / len(rows)
        leverage = np.einsum("nk,nk->n", columns @ np.linalg.inv(gram), columns)
        unexplained = np.square((centred - columns @ self.movement) / (mean_only - leverage)[:, None]).sum()
        return float(1 - unexplained / np.square(centred / mean_only).sum())

    def _directions(self) -> Matrix:
        """Return `(≤ k, d)` orthonormal rows that span the movement."""
        _, strengths, rows = np.linalg.svd(self.movement, full_matrices=False)
        directions: Matrix = rows[strengths > 1e-9 * strengths.max(initial=1e-300)]
        return directions

    def _columns(self, rows: Matrix, settings: Sequence[Mapping[str, Setting]]) -> Matrix:
        columns = [encoder.columns([one.get(name) for one in settings]) for name, encoder in self.settings.items()]
        norm = [self.own_norm.columns(_norms(rows))] if self.own_norm else []
        return np.concatenate([np.zeros((len(rows), 0)), *columns, *norm], axis=1)


def _encoder(settings: Sequence[Mapping[str, Setting]], name: str) -> Numbers | Categories:
    values = [one.get(name) for one in settings]
    return (Categories if any(isinstance(value, str) for value in values) else Numbers).fit(values)


def _logarithms(values: Sequence[Setting]) -> NDArray[np.float64]:
    usable = [value if isinstance(value, (int, float)) and value > 0 else np.nan for value in values]
    return np.log(np.asarray(usable, dtype=np.float64))


def _norms(rows: Matrix) -> list[Setting]:
    return [float(norm) for norm in np.linalg.norm(rows, axis=1)]
