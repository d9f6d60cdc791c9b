"""Effect of removing training settings, and of other readings of the same models, on the scores of each pool.

Every row is scored by leaving one model out: means, movements and covariances are learned without the model whose
neighbours are searched, and without domains. The pools are those of `benchmarks.quality`.

    python -m benchmarks.nuisance [--quick] [--folder FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.covariance import ledoit_wolf

from benchmarks import pool_scores
from benchmarks.pool_scores import Matrix, Score
from benchmarks.settings_removed import RIDGE, Nuisance, Removal, Setting
from deltadex.vectors import cosine_similarity, unit_vectors

ALL_SETTINGS = ("learning_rate", "rank", "epochs", "examples", "template")
#: Function of the vectors of all models and the indices of those to learn from; returns transformed vectors.
Learn = Callable[[Matrix, NDArray[np.intp]], Matrix]


@dataclass(frozen=True, eq=False)
class Readings:
    """The models of one pool.

    Attributes
    ----------
    probe_deltas
        `(n, n_probes, hidden_size)`.
    layers
        `(n, n_probes, layers + 1, 2, hidden_size)`: after every layer, at the last token and as the mean over tokens.
    labels, settings
        Domain and training settings of each model.
    comparable
        `(n, n)` bool: True for neighbours that count.
    """

    probe_deltas: NDArray[np.float32]
    layers: NDArray[np.float32]
    labels: Sequence[str]
    settings: Sequence[Mapping[str, Setting]]
    comparable: NDArray[np.bool_]

    @property
    def vectors(self) -> Matrix:
        """`(n, hidden_size)`: the deltas."""
        return self.probe_deltas.mean(1, dtype=np.float64)


@dataclass(frozen=True)
class Step:
    """A comparison of the models of a pool; `compare` returns their similarities."""

    name: str
    compare: Callable[[Readings], Matrix]


def without_settings(
    readings: Readings,
    names: Sequence[str] = ALL_SETTINGS,
    *,
    vectors: Matrix | None = None,
    own_norm: bool = False,
    removal: Removal = Removal.RESIDUAL,
    ridge: float = RIDGE,
) -> Matrix:
    """Return `(n, n)` similarities of residuals of `vectors` (default: the deltas); row i is fitted without model i."""

    def residuals(vectors: Matrix, others: NDArray[np.intp]) -> Matrix:
        known = [readings.settings[number] for number in others]
        nuisance = Nuisance.fit(vectors[others], known, names=names, own_norm=own_norm, ridge=ridge)
        return nuisance.remove(vectors, readings.settings, removal=removal)

    return _left_out(readings.vectors if vectors is None else vectors, residuals)


def _left_out(vectors: Matrix, learn: Learn) -> Matrix:
    count = len(vectors)
    rows = []
    for number in range(count):
        units = unit_vectors(learn(vectors, np.delete(np.arange(count), number)))
        rows.append(units @ units[number])
    return np.stack(rows)


def whitened(vectors: Matrix, others: NDArray[np.intp]) -> Matrix:
    """Return `(n, d)` unit vectors, centred and divided by the others' covariance, shrunk after Ledoit and Wolf."""
    units = unit_vectors(vectors)
    covariance, _ = ledoit_wolf(units[others])
    strengths, directions = np.linalg.eigh(covariance)
    white: Matrix = (units - units[others].mean(0)) @ directions / np.sqrt(strengths)
    return white


def without_common_direction(vectors: Matrix, others: NDArray[np.intp]) -> Matrix:
    """Return `(n, d)`: unit vectors without their component along the others' mean."""
    units = unit_vectors(vectors)
    common = unit_vectors(units[others].mean(0, keepdims=True))
    return units - units @ common.T @ common


def _plain(readings: Readings) -> Matrix:
    return cosine_similarity(readings.vectors)


def _per_probe(readings: Readings) -> Matrix:
    """Return similarities in which every probe counts the same, independent of the norm of its delta."""
    units = [unit_vectors(readings.probe_deltas[:, probe]) for probe in range(readings.probe_deltas.shape[1])]
    return cosine_similarity(np.mean(units, axis=0))


def _concatenated_probes(readings: Readings) -> Matrix:
    return cosine_similarity(readings.probe_deltas.reshape(len(readings.probe_deltas), -1))


def _positions(readings: Readings, layers: slice, positions: slice) -> Matrix:
    """Return `(n, k · hidden_size)`, with a delta of unit length for each layer and position."""
    means = readings.layers.mean(1, dtype=np.float64)[:, layers, positions]
    parts = means.reshape(len(means), -1, means.shape[-1])
    return np.concatenate([unit_vectors(parts[:, part]) for part in range(parts.shape[1])], axis=1)


def _side_by_side(readings: Readings, layers: slice, positions: slice) -> Matrix:
    return cosine_similarity(_positions(readings, layers, positions))


def _last_and_mean_without_settings(readings: Readings) -> Matrix:
    return without_settings(readings, vectors=_positions(readings, _FINAL, _BOTH))


_LAST, _MEAN, _BOTH, _FINAL = slice(0, 1), slice(1, 2), slice(0, 2), slice(-1, None)
STEPS = (
    Step("as published", _plain),
    Step("common direction projected out", lambda readings: _left_out(readings.vectors, without_common_direction)),
    Step("centred", partial(without_settings, names=())),
    Step("centred − own norm", partial(without_settings, names=(), own_norm=True)),
    Step("centred − learning rate", partial(without_settings, names=ALL_SETTINGS[:1])),
    Step("… − rank", partial(without_settings, names=ALL_SETTINGS[:2])),
    Step("… − epochs, examples", partial(without_settings, names=ALL_SETTINGS[:4])),
    Step("… − template: all", without_settings),
    Step("all, ridge 1", partial(without_settings, ridge=1.0)),
    Step("all, ridge .01", partial(without_settings, ridge=0.01)),
    Step("all − own norm", partial(without_settings, own_norm=True)),
    Step("all, projected out", partial(without_settings, removal=Removal.PROJECTION)),
    Step("whitened", lambda readings: _left_out(readings.vectors, whitened)),
    Step("probes of equal weight", _per_probe),
    Step("probes side by side", _concatenated_probes),
    Step("last two layers", partial(_side_by_side, layers=slice(-2, None), positions=_LAST)),
    Step("all layers", partial(_side_by_side, layers=slice(1, None), positions=_LAST)),
    Step("mean over tokens", partial(_side_by_side, layers=_FINAL, positions=_MEAN)),
    Step("last token and mean", partial(_side_by_side, layers=_FINAL, positions=_BOTH)),
    Step("last token and mean, all", _last_and_mean_without_settings),
)


@dataclass(frozen=True)
class Worth:
    """Score of a step on a pool, and the gain of its silhouette over the first step's, ± jackknife error."""

    score: Score
    gain: float
    error: float


def worth(readings: Readings) -> dict[str, Worth]:
    """Score every step on one pool; the threshold for pairs is not used here."""
    first = STEPS[0].compare(readings)
    return {step.name: _worth(step.compare(readings), first, readings) for step in STEPS}


def _worth(similarity: Matrix, first: Matrix, readings: Readings) -> Worth:
    score = pool_scores.score(similarity, readings.labels, threshold=1.0, comparable=readings.comparable)
    gain = score.silhouette - float(pool_scores.silhouettes(first, readings.labels).mean())
    return Worth(score, gain, pool_scores.jackknife_error(similarity, readings.labels, less=first))


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks import quality  # it imports this module

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    quality.add_arguments(parser)
    options = parser.parse_args(arguments)
    by_pool = {pool.name: worth(pool.readings) for pool in quality.trained(options)}
    show(by_pool, Console())
    if options.json:
        numbers = {pool: {step: asdict(one) for step, one in steps.items()} for pool, steps in by_pool.items()}
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def show(by_pool: Mapping[str, Mapping[str, Worth]], console: Console) -> None:
    """Print silhouette and neighbour accuracy by step and pool, and the number of pools on which a step is better."""
    table = Table("silhouette / nearest", *by_pool, "better", "> 2 errors", "worse", "> 2 errors")
    table.title = "effect of each step, leaving one model out"
    for step in STEPS:
        of_step = [steps[step.name] for steps in by_pool.values()]
        cells = [f"{one.score.silhouette:.2f} / {one.score.accuracy:.2f}" for one in of_step]
        signs = ((1, 0), (1, 2), (-1, 0), (-1, 2))
        counts = [sum(sign * one.gain > max(1e-3, errors * one.error) for one in of_step) for sign, errors in signs]
        table.add_row(step.name, *cells, *map(str, counts))
    console.print(table)


if __name__ == "__main__":
    main()
