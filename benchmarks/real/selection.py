"""Regret of choosing one model of a pool for a task of twenty examples, by several orders.

The pool are finetunes of the domains of `Role.REUSE` and of others, the tasks are of `Role.REUSE`. A model's real score
is its mean loss on held-out text of the task; regret is the chosen model's loss less the best one's, in nats per token.
Nothing here was fitted or chosen on these models: the orders are the product's, with its defaults.

The metadata that words are searched in are team habits: half of the models have their domain in name or tags, the
others a name that says nothing, such as `exp-17`; the mean over draws of which. A task is looked for by the name of its
domain, and one of the matching models is taken at random, or any model if none matches. The logged metric is each
model's loss on held-out text of its own domain, as trainers log it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.real.scores import Answer, _share, mean_with_interval
from deltadex.selection.ranking import MetricValue, RankBy, placed, predicted
from deltadex.types import VersionRow
from deltadex.vectors import cosine_similarity

#: The committed measurements.
FILE = Path(__file__).with_name("selection.npz")
#: Candidates of a search, as `deltadex find` has by default.
_CANDIDATES = 10
_NAMED, _DRAWS, _TRIED = 0.5, 400, 3

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """Pool and tasks.

    Attributes
    ----------
    models, tasks
        Names of the domains of the `n` models and of the `t` tasks.
    losses
        `(n + 1, t)`: mean nats per token on the text of each task; the last row is the base.
    logged
        `(n,)`: nats per token of each model on other text of its own domain, as its run would have logged it.
    model_vectors, task_vectors
        `(n, d)` and `(t, d)`: deltas by the product's recipe.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    losses: NDArray[np.float32]
    logged: NDArray[np.float32]
    model_vectors: NDArray[np.float32]
    task_vectors: NDArray[np.float32]


def save(file: Path, scored: Scored) -> None:
    """Write the measurements, vectors as float16."""
    np.savez_compressed(
        file,
        models=np.array(scored.models),
        tasks=np.array(scored.tasks),
        losses=scored.losses,
        logged=scored.logged,
        model_vectors=scored.model_vectors.astype(np.float16),
        task_vectors=scored.task_vectors.astype(np.float16),
    )


def load(file: Path) -> Scored:
    """Read what `save` wrote."""
    with np.load(file) as arrays:
        return Scored(
            tuple(map(str, arrays["models"])),
            tuple(map(str, arrays["tasks"])),
            arrays["losses"],
            arrays["logged"],
            arrays["model_vectors"].astype(np.float32),
            arrays["task_vectors"].astype(np.float32),
        )


@dataclass(frozen=True)
class _Model:
    """A candidate of the product's orders."""

    number: int
    similarity: float

    @property
    def version(self) -> VersionRow:
        raise NotImplementedError("the orders never look at it")


@dataclass(frozen=True, eq=False)
class Orders:
    """For each task the numbers of the models, the best first, `(draws, n or fewer)`: one draw where no luck is."""

    of_tasks: tuple[NDArray[np.intp], ...]


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Print the regrets, and return them.

    Parameters
    ----------
    folder
        Folder of the models, which are trained and scored if they were not before.
    quick
        Score the committed measurements.
    """
    if not quick:
        from benchmarks.real.selection_measured import measure  # imports torch

        save(FILE, measure(folder))
    scored = load(FILE)
    orders = _orders(scored)
    best = scored.losses[:-1].min(axis=0)
    title = f"{len(scored.tasks)} tasks, {len(scored.models)} models"
    table = Table("chosen by", "regret, first", "less by similarity", "best of first 3", "right domain", title=title)
    table.caption = "nats per token, 95 % by a bootstrap over the tasks; the domain of the first"
    by_similarity = _regrets(scored, orders["similarity"], 1)
    found: dict[str, object] = {}
    for name, order in orders.items():
        first, of_three = (_regrets(scored, order, count) for count in (1, _TRIED))
        right = _right_domains(scored, order)
        means = (mean_with_interval(list(each)) for each in (first, first - by_similarity, of_three))
        table.add_row(name, *map(str, means), right)
        found[name] = {"first": first.tolist(), "of three": of_three.tolist(), "right domain": right}
    of_base = mean_with_interval(list(scored.losses[-1] - best))
    table.add_row("the base alone", str(of_base), "", "", "")
    console.print(table)
    console.print(f"similarity and real score, rank correlation over the pool: {_correlation(scored)}")
    console.print(f"a metric predicted from neighbours, rank correlation with the logged one: {_predicted(scored)}")
    return {**found, "base": of_base.value}


def _orders(scored: Scored) -> Mapping[str, Orders]:
    draw = np.random.default_rng(0)
    logged = [MetricValue(float(value)) for value in scored.logged]
    half = _half_logged(scored, draw)
    return {
        "chance": Orders(tuple(_shuffled(len(scored.models), draw) for _ in scored.tasks)),
        "words in names and tags": Orders(tuple(_by_words(scored, task, draw) for task in scored.tasks)),
        "similarity": _placed(scored, logged, RankBy.SIMILARITY),
        "logged score": _placed(scored, logged, RankBy.SCORE),
        "both": _placed(scored, logged, RankBy.BOTH),
        "score, half predicted": _placed(scored, half, RankBy.SCORE),
        "both, half predicted": _placed(scored, half, RankBy.BOTH),
    }


def _placed(scored: Scored, scores: Sequence[MetricValue | None], by: RankBy) -> Orders:
    """Return the product's order of the candidates that a search finds."""
    count = len(scored.models)
    similarity = cosine_similarity(np.concatenate([scored.model_vectors, scored.task_vectors]))[count:, :count]
    orders = []
    for row in similarity:
        nearest = np.argsort(-row)[:_CANDIDATES].tolist()
        candidates = [_Model(number, float(row[number])) for number in nearest]
        order = placed(candidates, [scores[number] for number in nearest], by=by, lower_is_better=True)
        orders.append(np.array([[one.candidate.number for one in order]]))
    return Orders(tuple(orders))


def _half_logged(scored: Scored, draw: np.random.Generator) -> list[MetricValue | None]:
    """Return the metrics if the runs of half of the models logged none."""
    has_metric = draw.permutation(len(scored.models)) % 2 == 0
    return [
        MetricValue(float(scored.logged[number])) if known else _prediction(scored, number, has_metric)
        for number, known in enumerate(has_metric)
    ]


def _prediction(scored: Scored, number: int, has_metric: NDArray[np.bool_]) -> MetricValue | None:
    similarity = cosine_similarity(scored.model_vectors)[number]
    nearest = [each for each in np.argsort(-similarity).tolist() if has_metric[each] and each != number]
    return predicted([(float(similarity[each]), float(scored.logged[each])) for each in nearest])


def _shuffled(count: int, draw: np.random.Generator) -> NDArray[np.intp]:
    return np.array([draw.permutation(count) for _ in range(_DRAWS)])


def _by_words(scored: Scored, task: str, draw: np.random.Generator) -> NDArray[np.intp]:
    """Return the matching models in any order, then all others, for each draw of who is named well."""
    is_of_domain = np.array([name == task for name in scored.models])
    named = draw.random((_DRAWS, len(scored.models))) < _NAMED
    return np.argsort(draw.random(named.shape) - (named & is_of_domain), axis=1)


def _regrets(scored: Scored, orders: Orders, tried: int) -> Matrix:
    """Return `(t,)`: loss of the best of the first models less that of the best in the pool."""
    best = scored.losses[:-1].min(axis=0)
    losses = [
        column[order[:, :tried]].min(axis=1) for column, order in zip(scored.losses.T, orders.of_tasks, strict=True)
    ]
    regrets: Matrix = np.array([each.mean() for each in losses]) - best
    return regrets


def _right_domains(scored: Scored, orders: Orders) -> str:
    models = np.array(scored.models)
    shares = [np.mean(models[order[:, 0]] == task) for task, order in zip(scored.tasks, orders.of_tasks, strict=True)]
    if all(len(order) == 1 for order in orders.of_tasks):
        return str(_share([bool(share) for share in shares]))
    return f"{sum(shares):.1f} of {len(shares)}, the mean of {_DRAWS} draws"


def _correlation(scored: Scored) -> Answer:
    count = len(scored.models)
    similarity = cosine_similarity(np.concatenate([scored.model_vectors, scored.task_vectors]))[count:, :count]
    rows = zip(similarity, scored.losses[:-1].T, strict=True)
    return mean_with_interval([float(spearmanr(row, -losses).statistic) for row, losses in rows])


def _predicted(scored: Scored) -> str:
    """Leave out each model's own metric, and predict it from all others."""
    has_metric = np.ones(len(scored.models), dtype=bool)
    guesses = [_prediction(scored, number, has_metric) for number in range(len(scored.models))]
    pairs = [(one.value, value) for one, value in zip(guesses, scored.logged.tolist(), strict=True) if one]
    return f"{spearmanr(*zip(*pairs, strict=True)).statistic:.2f} over {len(pairs)} models"
