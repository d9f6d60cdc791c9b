"""How well embeddings tell domains apart, on pools of really trained finetunes (issue 5, point 8).

The models are trained on the spot, once, on one thread: from text on the machine, with transformers and peft. Methods:

- Delta Activations, ours: as `deltadex embed` computes them; *settings removed*: less their mean and what
  training settings explain (`deltadex.analysis.nuisance`), learned without the model that is looked at;
- published: the algorithm of arXiv 2509.04442 with transformers alone, for whole models too (the released scripts
  refuse them);
- outputs: each finetune continues the probes greedily for 24 tokens; the base reads that; the mean over tokens
  of its last hidden state. The paper uses a sentence encoder, which this machine has none of;
- weights: A and B of all LoRA modules flattened (raw), in the one form that their product gives by QR and singular
  values (canonical), and the product itself.

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
from deltadex.analysis.similarity import cosine_similarity

OURS, PUBLISHED = "ours", "published"
#: Mean silhouettes over LLaMA-3.1-8B, Gemma-2-9B and Qwen-2.5-7B: three splits of five domains.
PAPER = {PUBLISHED: 0.614, "outputs": 0.087, "weights, raw": -0.043}


@dataclass(frozen=True, eq=False)
class Trained:
    """A pool and what was measured of it."""

    pool: Pool
    measured: Sequence[Measured]
    weights: Mapping[str, Matrix]

    @property
    def name(self) -> str:
        """The pool's."""
        return self.pool.name

    @property
    def labels(self) -> list[str]:
        """The domain of each model."""
        return [one.domain for one in self.pool.finetunes]

    @property
    def readings(self) -> Readings:
        """What the nuisance analysis looks at."""
        return Readings(
            probe_deltas=np.stack([one.ours for one in self.measured]),
            layers=np.stack([one.published for one in self.measured]),
            labels=self.labels,
            settings=[one.settings for one in self.pool.finetunes],
            comparable=comparable(self.pool),
        )

    @cached_property
    def similarities(self) -> dict[str, Matrix]:
        """`(n, n)` by method; row i as seen from model i."""
        published = np.stack([one.published[:, -1, 0].mean(0) for one in self.measured])
        return {
            OURS: cosine_similarity(self.readings.vectors),
            "settings removed": without_settings(self.readings),
            PUBLISHED: cosine_similarity(published),
            "outputs": cosine_similarity(np.stack([one.output for one in self.measured])),
            **self.weights,
        }


def comparable(pool: Pool) -> NDArray[np.bool_]:
    """Return `(n, n)`: pairs of different models that differ in what the pool looks across."""
    models = pool.finetunes
    apart = [[one != other and _differ(one, other, pool.across) for other in models] for one in models]
    return np.array(apart)


def _differ(one: Finetune, other: Finetune, field: str | None) -> bool:
    return field is None or getattr(one, field) != getattr(other, field)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--vectors", type=Path, help="write all vectors, labels and settings to this .npz file")
    given, console = parser.parse_args(arguments), Console()
    found = list(trained(given))
    table = scores(found)
    show(table, console)
    reseeded = reseeds(found[0])
    show_reseeds(reseeded, console)
    sums = [] if given.quick else list(pool_additivity.additivity(*_mixtures(given)))
    pool_additivity.show(sums, console)
    if given.vectors:
        write(given.vectors, found)
    if given.json:
        given.json.write_text(json.dumps(described(table, reseeded, sums), indent=2) + "\n", encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what decides which models are trained, and where."""
    parser.add_argument("--quick", action="store_true", help="three domains a few minutes")
    parser.add_argument("--folder", type=Path, default=user_cache_path("deltadex") / "quality", help="trained models")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")


def trained(given: argparse.Namespace) -> Iterator[Trained]:
    """Yield each pool, trained and measured."""
    with Console(stderr=True).status("") as status, quiet():
        workshop = Workshop(given.folder, BASES, lambda what: status.update(f"{what} …"))
        for pool in pools.quick_pools() if given.quick else pools.pools():
            base = pool.finetunes[0].base
            measured = measure(workshop, base, pool.finetunes)
            yield Trained(pool, measured, weight_similarities(workshop, base, pool.finetunes))


def _mixtures(given: argparse.Namespace) -> tuple[dict[Finetune, NDArray[np.float32]], tuple[Finetune, ...]]:
    mixtures = pools.mixtures()
    wanted = (*pools.singles(), *mixtures)
    with Console(stderr=True).status("") as status, quiet():
        workshop = Workshop(given.folder, BASES, lambda what: status.update(f"{what} …"))
        measured = measure(workshop, BASE, wanted)
    return {one: each.ours.mean(0) for one, each in zip(wanted, measured, strict=True)}, mixtures


def scores(found: Sequence[Trained]) -> dict[str, dict[str, Score]]:
    """Score each pool by each method; pairs are called duplicates at the threshold that is best on the first pool."""
    first = found[0]
    truth = np.equal.outer(first.labels, first.labels)
    thresholds = {name: pool_scores.best_threshold(matrix, truth) for name, matrix in first.similarities.items()}
    return {
        each.name: {
            name: pool_scores.score(matrix, each.labels, threshold=thresholds[name], comparable=comparable(each.pool))
            for name, matrix in each.similarities.items()
        }
        for each in found
    }


def reseeds(found: Trained) -> dict[str, dict[str, float | None]]:
    """Return how well similarity finds reseeded models: the same data in another order, from another start.

    Every other pair counts as wrong, other splits of the same domain too.
    """
    parts = [f"{one.domain} {one.part}" for one in found.pool.finetunes]
    truth = np.equal.outer(parts, parts)
    report: dict[str, dict[str, float | None]] = {}
    for name, matrix in found.similarities.items():
        threshold = pool_scores.best_threshold(matrix, truth)
        score = pool_scores.score(matrix, parts, threshold=threshold)
        report[name] = {
            "average precision": score.average_precision,
            "precision": score.precision,
            "recall": score.recall,
            **_medians(matrix, truth, np.equal.outer(found.labels, found.labels)),
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
    """Return everything as JSON takes it."""
    return {
        "pools": {pool: {name: asdict(score) for name, score in row.items()} for pool, row in table.items()},
        "reseeds": reseeded,
        "additivity": [asdict(one) for one in sums],
        "paper": PAPER,
    }


def write(file: Path, found: Iterable[Trained]) -> None:
    """Write arrays by pool: `<number>.probe_deltas`, `.layers`, `.outputs`, `.models` (JSON), and `pools` (names)."""
    arrays: dict[str, Any] = {}
    names = []
    for number, each in enumerate(found):
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
