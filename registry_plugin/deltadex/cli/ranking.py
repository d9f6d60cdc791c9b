"""Options that order the models of a search, and what they add to its table and its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from deltadex.access import Person
from deltadex.find.answers import TaskModel, TaskModels
from deltadex.selection.rank import Ranking, rank
from deltadex.selection.ranking import Metric, MetricValue, Placed, RankBy
from deltadex.settings import Settings
from deltadex.store.database import Transaction

Rank = Annotated[
    RankBy,
    typer.Option("--rank", help="Order of the models that are close: by similarity, a metric of their runs, or both."),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="With --rank score or both: a metric that the runs logged.",
        show_default="the setting THRESHOLDS__KEEPER_METRIC",
    ),
]
LowerIsBetter = Annotated[
    bool, typer.Option("--lower-is-better", help="With --metric: lower values are better, as of a loss.")
]


@dataclass(frozen=True)
class Order:
    """A wanted order; an order by similarity has no metric."""

    by: RankBy = RankBy.SIMILARITY
    metric: Metric | None = None

    def of(self, tx: Transaction, viewer: Person, settings: Settings, found: TaskModels) -> Ranking[TaskModel]:
        """Return the models of a search in this order."""
        if found.recipe is None:
            return Ranking(())
        return rank(
            tx, viewer, found.models, recipe_id=found.recipe.id, registry=settings.registry, by=self.by,
            metric=self.metric,
        )  # fmt: skip


def order_from(settings: Settings, by: RankBy, metric: str | None, *, lower_is_better: bool) -> Order:
    """Return the order of the options.

    Raises
    ------
    typer.BadParameter
        A metric is needed and not named, or named and not needed.
    """
    if by is RankBy.SIMILARITY:
        if metric or lower_is_better:
            raise typer.BadParameter("--metric goes with --rank score or both")
        return Order()
    if metric:
        return Order(by, Metric(metric, lower_is_better))
    if lower_is_better or not settings.thresholds.keeper_metric:
        raise typer.BadParameter(f"--rank {by} needs --metric NAME, such as eval_loss with --lower-is-better")
    return Order(by, Metric.of(settings.thresholds.keeper_metric))


def score_text(score: MetricValue | None) -> str:
    """Return a metric for a table; a predicted one has a mark."""
    if score is None:
        return "–"
    return f"~{score.value:.4g}" if score.neighbors else f"{score.value:.4g}"


def score_json(one: Placed[TaskModel]) -> dict[str, Any] | None:
    """Return a metric as JSON."""
    return None if one.score is None else {"value": one.score.value, "predicted_from": one.score.neighbors}
