"""Separation of domains by embeddings, on pools of trained finetunes.

The models are trained once, on one thread, from text on the machine, with transformers and peft. Methods:

- ours: Delta Activations as `deltadex embed` computes them; *settings removed*: minus their mean and the part that
  training settings explain (`benchmarks.settings_removed`), learned without the compared model;
- published: the algorithm of arXiv 2509.04442 with transformers alone, also for full models, which the released scripts
  refuse;
- outputs: mean over tokens of the base's last hidden state on each finetune's greedy continuation of the probes by 24
  tokens. The paper uses a sentence encoder instead;
- weights: A and B of all LoRA modules flattened (raw), in a form that depends only on their product (canonical), and
  the product itself.

    python -m benchmarks.quality [--quick] [--folder FOLDER] [--json FILE] [--vectors FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks import pool_additivity, pool_scores, pools
from benchmarks.nuisance import Readings, without_settings
from benchmarks.pool_scores import Matrix, Score
from benchmarks.pool_training import Workshop, quiet
from benchmarks.pool_vectors import Measured, describe, measure, weight_similarities
from benchmarks.pools import BASE, BASES, Finetune, Pool
from deltadex.vectors import cosine_similarity

OURS, PUBLISHED = "ours", "published"
#: The paper's mean silhouettes over LLaMA-3.1-8B, Gemma-2-9B and Qwen-2.5-7B: three splits of five domains.
PAPER = {PUBLISHED: 0.614, "outputs": 0.087, "weights, raw": -0.043}


@dataclass(frozen=True, eq=False)
class Trained:
    """A pool and its measurements."""

    pool: Pool
    measured: Sequence[Measured]
    weights: Mapping[str, Matrix]

    @property
    def name(self) -> str:
        """Name of the pool."""
        return self.pool.name

    @property
    def labels(self) -> list[str]:
        """Domain of each model."""
        return [one.domain for one in self.pool.finetunes]

    @property
    def readings(self) -> Readings:
        """Readings for `benchmarks.nuisance`."""
        return Readings(
            probe_deltas=np.stack([one.ours for one in self.measured]),
            layers=np.stack([one.published for one in self.measured]),
            labels=self.labels,
            settings=[one.settings for one in self.pool.finetunes],
            comparable=comparable(self.pool),
        )

    @cached_property
    def similarities(self) -> dict[str, Matrix]:
        """`(n, n)` similarities by method; with settings removed, row i is learned without model i."""
        published = np.stack([one.published[:, -1, 0].mean(0) for one in self.measured])
        return {
            OURS: cosine_similarity(self.readings.vectors),
            "settings removed": without_settings(self.readings),
            PUBLISHED: cosine_similarity(published),
            "outputs": cosine_similarity(np.stack([one.output for one in self.measured])),
            **self.weights,
        }


def comparable(pool: Pool) -> NDArray[np.bool_]:
    """Return `(n, n)`: True for pairs of different models that also differ in the field `across` of the pool."""
    models = pool.finetunes
    differences = [[one != other and _differ(one, other, pool.across) for other in models] for one in models]
    return np.array(differences)


def _differ(one: Finetune, other: Finetune, field: str | None) -> bool:
    return field is None or getattr(one, field) != getattr(other, field)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--vectors", type=Path, help="write all vectors, labels and settings to this .npz file")
    options, console = parser.parse_args(arguments), Console()
    all_trained = list(trained(options))
    table = scores(all_trained)
    show(table, console)
    reseeded = reseeds(all_trained[0])
    show_reseeds(reseeded, console)
    sums = [] if options.quick else list(pool_additivity.additivity(*_mixtures(options)))
    pool_additivity.show(sums, console)
    if options.vectors:
        write(options.vectors, all_trained)
    if options.json:
        options.json.write_text(json.dumps(described(table, reseeded, sums), indent=2) + "\n", encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the pools and the folder of trained models."""
    parser.add_argument("--quick", action="store_true", help="three domains: a few minutes")
    parser.add_argument("--folder", type=Path, default=user_cache_path("deltadex") / "quality", help="trained models")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")


def trained(options: argparse.Namespace) -> Iterator[Trained]:
    """Yield each pool, trained and measured."""
    with Console(stderr=True).status("") as status, quiet():
        workshop = Workshop(options.folder, BASES, lambda name: status.update(f"{name} …"))
        for pool in pools.quick_pools() if options.quick else pools.pools():
            base = pool.finetunes[0].base
            measured = measure(workshop, base, pool.finetunes)
            yield Trained(pool, measured, weight_similarities(workshop, base, pool.finetunes))


def _mixtures(options: argparse.Namespace) -> tuple[dict[Finetune, NDArray[np.float32]], tuple[Finetune, ...]]:
    mixtures = pools.mixtures()
    finetunes = (*pools.singles(), *mixtures)
    with Console(stderr=True).status("") as status, quiet():
        workshop = Workshop(options.folder, BASES, lambda name: status.update(f"{name} …"))
        measured = measure(workshop, BASE, finetunes)
    return {one: each.ours.mean(0) for one, each in zip(finetunes, measured, strict=True)}, mixtures


def scores(all_trained: Sequence[Trained]) -> dict[str, dict[str, Score]]:
    """Score each pool by each method. Duplicates are predicted at the threshold that is best on the first pool."""
    first = all_trained[0]
    truth = np.equal.outer(first.labels, first.labels)
    thresholds = {name: pool_scores.best_threshold(matrix, truth) for name, matrix in first.similarities.items()}
    return {
        each.name: {
            name: pool_scores.score(matrix, each.labels, threshold=thresholds[name], comparable=comparable(each.pool))
            for name, matrix in each.similarities.items()
        }
        for each in all_trained
    }


def reseeds(trained: Trained) -> dict[str, dict[str, float | None]]:
    """Return the precision and recall of each method for reseeded models: other data order, other initial weights.

    All other pairs count as false, including other splits of the same domain.
    """
    parts = [f"{one.domain} {one.part}" for one in trained.pool.finetunes]
    truth = np.equal.outer(parts, parts)
    report: dict[str, dict[str, float | None]] = {}
    for name, matrix in trained.similarities.items():
        threshold = pool_scores.best_threshold(matrix, truth)
        score = pool_scores.score(matrix, parts, threshold=threshold)
        report[name] = {
            "average precision": score.average_precision,
            "precision": score.precision,
            "recall": score.recall,
            **_medians(matrix, truth, np.equal.outer(trained.labels, trained.labels)),
        }
    return report


def _medians(matrix: Matrix, reseeded: NDArray[np.bool_], same_domain: NDArray[np.bool_]) -> dict[str, float]:
    pairs = np.triu(np.ones_like(same_domain), 1)
    kinds = {"reseed": reseeded, "other split": same_domain & ~reseeded, "other domain": ~same_domain}
    return {name: float(np.median(matrix[pairs & kind])) for name, kind in kinds.items()}


def show(table: Mapping[str, Mapping[str, Score]], console: Console) -> None:
    methods = list(dict.fromkeys(chain.from_iterable(table.values())))
    for title, text in _VIEWS.items():
        printed = Table("pool", *methods, title=title)
        for pool, row in table.items():
            printed.add_row(pool, *(text(row[method]) if method in row else "–" for method in methods))
        if title.startswith("silhouette"):
            printed.add_row("the paper's pool a, 7–9B", *(f"{PAPER[m]:.2f}" if m in PAPER else "" for m in methods))
        console.print(printed)


_VIEWS: Mapping[str, Any] = {
    "silhouette (cosine) ± jackknife error": lambda one: f"{one.silhouette:.2f} ± {one.error:.2f}",
    "nearest other model has the same domain": lambda one: f"{one.accuracy:.2f}",
    "pairs of one domain: average precision; precision / recall at the first pool's best threshold": lambda one: (
        f"{one.average_precision:.2f}; {_share(one.precision)} / {one.recall:.2f}"
    ),
}


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def show_reseeds(report: Mapping[str, Mapping[str, float | None]], console: Console) -> None:
    columns = list(next(iter(report.values())))
    printed = Table("method", *columns, title="reseeds as the only true duplicates, and median similarities")
    for name, row in report.items():
        printed.add_row(name, *(_share(row[column]) for column in columns))
    console.print(printed)


def described(
    table: Mapping[str, Mapping[str, Score]],
    reseeded: Mapping[str, Mapping[str, float | None]],
    sums: Sequence[pool_additivity.Additivity],
) -> dict[str, object]:
    """Return all results as JSON values."""
    return {
        "pools": {pool: {name: asdict(score) for name, score in row.items()} for pool, row in table.items()},
        "reseeds": reseeded,
        "additivity": [asdict(one) for one in sums],
        "paper": PAPER,
    }


def write(file: Path, all_trained: Iterable[Trained]) -> None:
    """Write arrays by pool: `<number>.probe_deltas`, `.layers`, `.outputs`, `.models` (JSON), and `pools` (names)."""
    arrays: dict[str, Any] = {}
    names = []
    for number, each in enumerate(all_trained):
        names.append(each.name)
        arrays |= {
            f"{number}.probe_deltas": each.readings.probe_deltas,
            f"{number}.layers": each.readings.layers,
            f"{number}.outputs": np.stack([one.output for one in each.measured]),
            f"{number}.models": np.array([json.dumps(one) for one in describe(each.pool.finetunes)]),
        }
    np.savez_compressed(file, pools=np.array(names), **arrays)


if __name__ == "__main__":
    main()
