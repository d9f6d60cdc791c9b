"""What removing training settings, and other readings of the same models, are worth on each pool (issue 5, point 7).

Every row is scored leave one model out: what is learned from a pool (means, movements, covariances) is learned without
the model whose neighbours are looked for, and without any domain. The pools are those of `benchmarks.quality`.

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
from deltadex.analysis.nuisance import RIDGE, Nuisance, Removal, Setting
from deltadex.analysis.similarity import cosine_similarity, unit_vectors

ALL_SETTINGS = ("learning_rate", "rank", "epochs", "examples", "template")
#: Takes the vectors of all models and the numbers of those to learn from, and returns other vectors.
Learn = Callable[[Matrix, NDArray[np.intp]], Matrix]


@dataclass(frozen=True, eq=False)
class Readings:
    """The models of one pool.

    Attributes
    ----------
    probe_deltas
        `(n, n_probes, hidden_size)`.
    layers
        `(n, n_probes, layers + 1, 2, hidden_size)`: after every layer, at the last token and in the mean over tokens.
    labels, settings
        Domain and training settings of each.
    comparable
        `(n, n)` bool: which neighbours count.
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
    """One way to compare the models of a pool; `compare` returns their similarities."""

    name: str
    compare: Callable[[Readings], Matrix]


def without_settings(
    readings: Readings,
    names: Sequence[str],
    *,
    own_norm: bool = True,
    removal: Removal = Removal.RESIDUAL,
    ridge: float = RIDGE,
) -> Matrix:
    """Return `(n, n)` similarities; row i is of residuals after a fit without model i."""

    def residuals(vectors: Matrix, others: NDArray[np.intp]) -> Matrix:
        known = [readings.settings[number] for number in others]
        found = Nuisance.fit(vectors[others], known, names=names, own_norm=own_norm, ridge=ridge)
        return found.remove(vectors, readings.settings, removal=removal)

    return _left_out(readings.vectors, residuals)


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
    """Return `(n, d)`: unit vectors without what lies along the others' mean."""
    units = unit_vectors(vectors)
    common = unit_vectors(units[others].mean(0, keepdims=True))
    return units - units @ common.T @ common


def _plain(readings: Readings) -> Matrix:
    return cosine_similarity(readings.vectors)


def _per_probe(readings: Readings) -> Matrix:
    """Every probe counts the same, whatever the norm of its delta."""
    units = [unit_vectors(readings.probe_deltas[:, probe]) for probe in range(readings.probe_deltas.shape[1])]
    return cosine_similarity(np.mean(units, axis=0))


def _concatenated_probes(readings: Readings) -> Matrix:
    return cosine_similarity(readings.probe_deltas.reshape(len(readings.probe_deltas), -1))


def _positions(readings: Readings, chosen: slice, position: slice) -> Matrix:
    """Each layer and position counts the same: deltas of unit length, one after the other."""
    means = readings.layers.mean(1, dtype=np.float64)[:, chosen, position]
    parts = means.reshape(len(means), -1, means.shape[-1])
    return cosine_similarity(np.concatenate([unit_vectors(parts[:, each]) for each in range(parts.shape[1])], axis=1))


_LAST, _MEAN, _BOTH = slice(0, 1), slice(1, 2), slice(0, 2)
STEPS = (
    Step("as published", _plain),
    Step("common direction projected out", lambda readings: _left_out(readings.vectors, without_common_direction)),
    Step("centred", partial(without_settings, names=(), own_norm=False)),
    Step("centred − own norm", partial(without_settings, names=())),
    Step("… − learning rate", partial(without_settings, names=ALL_SETTINGS[:1])),
    Step("… − rank", partial(without_settings, names=ALL_SETTINGS[:2])),
    Step("… − epochs, examples", partial(without_settings, names=ALL_SETTINGS[:4])),
    Step("… − template: all", partial(without_settings, names=ALL_SETTINGS)),
    Step("all but own norm", partial(without_settings, names=ALL_SETTINGS, own_norm=False)),
    Step("all, projected out", partial(without_settings, names=ALL_SETTINGS, removal=Removal.PROJECTION)),
    Step("all, ridge 1", partial(without_settings, names=ALL_SETTINGS, ridge=1.0)),
    Step("whitened", lambda readings: _left_out(readings.vectors, whitened)),
    Step("probes of equal weight", _per_probe),
    Step("probes side by side", _concatenated_probes),
    Step("mean over tokens", partial(_positions, chosen=slice(-1, None), position=_MEAN)),
    Step("last token and mean", partial(_positions, chosen=slice(-1, None), position=_BOTH)),
    Step("last two layers", partial(_positions, chosen=slice(-2, None), position=_LAST)),
    Step("all layers", partial(_positions, chosen=slice(1, None), position=_LAST)),
)


def scores(readings: Readings) -> dict[str, Score]:
    """Score every step on one pool; the threshold for pairs is not used here."""
    return {
        step.name: pool_scores.score(
            step.compare(readings), readings.labels, threshold=1.0, comparable=readings.comparable
        )
        for step in STEPS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks import quality  # it shows one of the steps in its own table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    quality.add_arguments(parser)
    given = parser.parse_args(arguments)
    found = {pool.name: scores(pool.readings) for pool in quality.trained(given)}
    show(found, Console())
    if given.json:
        numbers = {pool: {step: asdict(one) for step, one in steps.items()} for pool, steps in found.items()}
        given.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def show(found: Mapping[str, Mapping[str, Score]], console: Console) -> None:
    """Print silhouette and neighbour accuracy, steps by pools, and whether a step is better on every pool."""
    table = Table("silhouette / nearest", *found, "better on", title="what each step is worth, leave one model out")
    first = {pool: steps[STEPS[0].name] for pool, steps in found.items()}
    for step in STEPS:
        here = {pool: steps[step.name] for pool, steps in found.items()}
        better = sum(here[pool].silhouette > first[pool].silhouette for pool in found)
        cells = [f"{one.silhouette:.2f} / {one.accuracy:.2f}" for one in here.values()]
        table.add_row(step.name, *cells, f"{better} of {len(found)}")
    console.print(table)


if __name__ == "__main__":
    main()
