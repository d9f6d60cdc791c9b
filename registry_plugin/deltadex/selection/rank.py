"""Candidates for a task in an order, with the metric of each, for a viewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from deltadex.access import Person
from deltadex.search import reads as search
from deltadex.search.query_vector import versions_of
from deltadex.selection.ranking import AnyRankable, Metric, MetricValue, Placed, RankBy, placed, predicted
from deltadex.store.database import Transaction

#: Neighbours of a version that are looked through for a metric.
_LOOKED_AT = 50
#: By whom a metric may be compared, which no number tells.
SAME_DATA = "A metric compares only versions that were evaluated on the same data."


@dataclass(frozen=True)
class Ranking(Generic[AnyRankable]):
    """Candidates, the best first.

    Attributes
    ----------
    note
        What was predicted or is missing, and what the order rests on; empty for an order by similarity.
    """

    placed: tuple[Placed[AnyRankable], ...]
    note: str = ""


def rank(
    tx: Transaction,
    viewer: Person,
    candidates: Sequence[AnyRankable],
    *,
    recipe_id: int,
    registry: str,
    by: RankBy,
    metric: Metric | None = None,
) -> Ranking[AnyRankable]:
    """Return the candidates in order; only these are ranked, so that a good score elsewhere does not count.

    Parameters
    ----------
    candidates
        Versions with an embedding under the recipe, such as those of `deltadex.find.search.models_for`.
    metric
        Needed unless the order is by similarity. A version whose run did not log it gets the mean of its neighbours,
        weighted by their similarity. Hidden versions have none, and predict none.

    Raises
    ------
    ValueError
        The order needs a metric.
    """
    if by is RankBy.SIMILARITY:
        return Ranking(placed(candidates, [None] * len(candidates), by=by, lower_is_better=False))
    if metric is None:
        raise ValueError(f"an order by {by} needs a metric")
    own = [one.version.provenance.metrics.get(metric.name) for one in candidates]
    scores = [None if value is None else MetricValue(value) for value in own]
    lacking = [
        number
        for number, one in enumerate(candidates)
        if scores[number] is None and viewer.sees(one.version.registered.ref.name)
    ]
    ids = [candidates[number].version.id for number in lacking]
    for number, score in zip(lacking, _predictions(tx, viewer, ids, recipe_id, registry, metric.name), strict=True):
        scores[number] = score
    order = placed(candidates, scores, by=by, lower_is_better=metric.lower_is_better)
    return Ranking(order, _note(metric.name, scores))


def _predictions(
    tx: Transaction, viewer: Person, ids: Sequence[int], recipe_id: int, registry: str, metric: str
) -> Iterator[MetricValue | None]:
    if not ids:
        return
    questions = versions_of(tx, ids, recipe_id=recipe_id, registry=registry)
    for own, found in zip(ids, search.answer(tx, viewer, questions, k=_LOOKED_AT), strict=True):
        yield predicted(
            [
                (one.similarity, one.version.provenance.metrics[metric])
                for one in found.neighbors
                if one.version.id != own and metric in one.version.provenance.metrics
            ]
        )


def _note(metric: str, scores: Sequence[MetricValue | None]) -> str:
    missing = sum(score is None for score in scores)
    guessed = sum(score is not None and score.neighbors > 0 for score in scores)
    if scores and missing == len(scores):
        return f"No version here logged {metric}, and none of their neighbours did: the order is by similarity."
    parts = [
        f"{metric} of {guessed} of {len(scores)} is predicted from neighbours." if guessed else "",
        f"{missing} of {len(scores)} have no {metric}, and no neighbour with it." if missing else "",
        SAME_DATA,
    ]
    return " ".join(filter(None, parts))
