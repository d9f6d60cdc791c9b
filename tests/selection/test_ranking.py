"""Candidates are ordered by similarity, by a metric, or by both; a metric is predicted from neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.selection.ranking import NEIGHBORS, Metric, MetricValue, Placed, RankBy, placed, predicted
from deltadex.types import VersionRow


@dataclass(frozen=True)
class Close:
    """A candidate; no rule looks at its version."""

    similarity: float

    @property
    def version(self) -> VersionRow:
        raise AssertionError("the order does not depend on it")


def order(found: tuple[Placed[Close], ...]) -> list[float]:
    return [one.candidate.similarity for one in found]


THREE = [Close(0.9), Close(0.8), Close(0.7)]
LOSSES = [MetricValue(3.0), MetricValue(1.0), MetricValue(2.0)]


def test_an_order_by_similarity_ignores_scores() -> None:
    found = placed(THREE[::-1], LOSSES, by=RankBy.SIMILARITY, lower_is_better=True)
    assert order(found) == [0.9, 0.8, 0.7]


@pytest.mark.parametrize(("lower", "expected"), [(True, [0.8, 0.7, 0.9]), (False, [0.9, 0.7, 0.8])])
def test_an_order_by_score_knows_which_side_is_better(lower: bool, expected: list[float]) -> None:
    assert order(placed(THREE, LOSSES, by=RankBy.SCORE, lower_is_better=lower)) == expected


def test_with_both_a_second_place_in_each_beats_a_first_and_a_last() -> None:
    four = [*THREE, Close(0.6)]
    losses = [MetricValue(4.0), MetricValue(2.0), MetricValue(3.0), MetricValue(1.0)]
    assert order(placed(four, losses, by=RankBy.BOTH, lower_is_better=True))[0] == 0.8


def test_who_has_no_score_comes_last_by_score_and_by_both() -> None:
    scores = [None, MetricValue(1.0), MetricValue(2.0)]
    for by in (RankBy.SCORE, RankBy.BOTH):
        assert order(placed(THREE, scores, by=by, lower_is_better=True)) == [0.8, 0.7, 0.9]


@given(st.lists(st.tuples(st.floats(-1, 1), st.none() | st.floats(0, 9)), max_size=12), st.sampled_from(RankBy))
def test_every_candidate_has_one_place(rows: list[tuple[float, float | None]], by: RankBy) -> None:
    candidates = [Close(similarity) for similarity, _ in rows]
    scores = [None if value is None else MetricValue(value) for _, value in rows]
    found = placed(candidates, scores, by=by, lower_is_better=True)
    assert sorted(order(found)) == sorted(one.similarity for one in candidates)


def test_a_prediction_is_the_mean_of_the_closest_weighted_by_similarity() -> None:
    assert predicted([(0.9, 1.0), (0.3, 2.0)]) == MetricValue(pytest.approx(1.25), 2)
    many = [(0.5, 1.0)] * NEIGHBORS + [(0.4, 100.0)]
    assert predicted(many) == MetricValue(pytest.approx(1.0), NEIGHBORS)


def test_what_points_the_other_way_predicts_nothing() -> None:
    assert predicted([(-0.2, 1.0), (0.0, 2.0)]) is None
    assert predicted([]) is None


def test_a_minus_before_a_metric_says_that_lower_is_better() -> None:
    assert Metric.of("-eval_loss") == Metric("eval_loss", lower_is_better=True)
    assert Metric.of("f1") == Metric("f1")
