"""Rules of the order: a metric's prediction from neighbours, and the fusion of two orders. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from deltadex.types import VersionRow

#: Versions whose metric predicts that of a neighbour without one.
NEIGHBORS = 5
#: Dampens the first places, so that one order alone does not decide (Cormack, Clarke and Büttcher 2009).
_FUSION = 60


class RankBy(StrEnum):
    """Criterion of the order."""

    SIMILARITY = "similarity"
    SCORE = "score"
    BOTH = "both"


@dataclass(frozen=True)
class Metric:
    """A metric that runs log."""

    name: str
    lower_is_better: bool = False

    @classmethod
    def of(cls, text: str) -> Metric:
        """Return the metric of a name; a leading - says that lower is better."""
        return cls(text.removeprefix("-"), text.startswith("-"))


@dataclass(frozen=True)
class MetricValue:
    """A version's metric.

    Attributes
    ----------
    neighbors
        Number of neighbours that it is predicted from; 0 if the version's own run logged it.
    """

    value: float
    neighbors: int = 0


class Rankable(Protocol):
    """A version, and the cosine similarity of its delta to that of the task."""

    @property
    def version(self) -> VersionRow:
        """The version."""

    @property
    def similarity(self) -> float:
        """Higher is closer."""


AnyRankable = TypeVar("AnyRankable", bound=Rankable)


@dataclass(frozen=True)
class Placed(Generic[AnyRankable]):
    """A candidate in its place of the order; `score` is None if its metric is not known and can't be predicted."""

    candidate: AnyRankable
    score: MetricValue | None


def predicted(neighbors: Sequence[tuple[float, float]]) -> MetricValue | None:
    """Return the mean metric of neighbours, weighted by their similarity (Nadaraya and Watson 1964).

    Parameters
    ----------
    neighbors
        Similarity and metric of each, closest first; the first `NEIGHBORS` with a positive similarity count.
    """
    near = [(similarity, value) for similarity, value in neighbors if similarity > 0][:NEIGHBORS]
    if not near:
        return None
    total = sum(similarity for similarity, _ in near)
    return MetricValue(sum(similarity * value for similarity, value in near) / total, len(near))


def placed(
    candidates: Sequence[AnyRankable], scores: Sequence[MetricValue | None], *, by: RankBy, lower_is_better: bool
) -> tuple[Placed[AnyRankable], ...]:
    """Return the candidates in order, the best first.

    With both, a candidate gets 1 / (60 + place) for its place in each order; equal sums are ordered by similarity. A
    candidate without a score has no place in the order by score, where it comes last.
    """
    sign = -1.0 if lower_is_better else 1.0
    values = [-float("inf") if score is None else sign * score.value for score in scores]
    numbers = range(len(candidates))
    by_similarity = sorted(numbers, key=lambda number: -candidates[number].similarity)
    by_score = sorted(by_similarity, key=lambda number: -values[number])
    order = {RankBy.SIMILARITY: by_similarity, RankBy.SCORE: by_score}.get(by)
    if order is None:
        points = dict.fromkeys(numbers, 0.0)
        for place, number in enumerate(by_similarity, start=1):
            points[number] += 1 / (_FUSION + place)
        for place, number in enumerate(by_score, start=1):
            points[number] += 0.0 if scores[number] is None else 1 / (_FUSION + place)
        order = sorted(by_similarity, key=lambda number: -points[number])
    return tuple(Placed(candidates[number], scores[number]) for number in order)
