"""Prediction of a merge from its parents, and the warnings that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deltadex.merge.methods import MergeMethod
from deltadex.merge.prediction import predict
from deltadex.merge.warnings import LEAST_ALIKE, LEAST_KEPT, MergeRisk, warnings_of

VECTORS = arrays(np.float32, (3, 6), elements=st.floats(0.5, 8, width=32))


@given(VECTORS, st.lists(st.floats(0.125, 4), min_size=3, max_size=3))
def test_the_prediction_is_the_weighted_sum_and_its_direction_ignores_a_common_factor(
    vectors: np.ndarray, weights: list[float]
) -> None:
    found, scaled = predict(vectors, weights), predict(vectors, [3 * one for one in weights])
    assert np.allclose(found.vector, sum(w * v for w, v in zip(weights, vectors.astype(float), strict=True)))
    assert found.to_parents == pytest.approx(scaled.to_parents)
    assert len(found.pairs) == 3


def test_a_merge_keeps_of_orthogonal_parents_their_weights_and_of_a_copy_everything() -> None:
    assert predict([[2, 0], [0, 5]], [0.5, 0.25]).kept == pytest.approx((0.5, 0.25))
    assert predict([[2, 1], [2, 1]], [0.5, 0.5]).kept == pytest.approx((1, 1))
    opposite = predict([[1, 0], [-3, 0]], [0.5, 0.5])
    assert opposite.kept == pytest.approx((-1, 1 / 3))
    assert opposite.pairs == pytest.approx((-1,))


def risks(vectors: list[list[float]]) -> set[MergeRisk]:
    labels = [f"m{number}/1" for number in range(len(vectors))]
    return {one.risk for one in warnings_of(predict(vectors, [1 / len(vectors)] * len(vectors)), labels)}


def test_warnings_name_what_fades_and_what_is_alike() -> None:
    assert LEAST_KEPT > 0.5
    assert risks([[1, 0], [0, 1]]) == {MergeRisk.FADES}
    assert risks([[1, 0], [1, 0.01]]) == {MergeRisk.ALIKE}
    close = float(np.sqrt(1 / (LEAST_ALIKE - 0.05) ** 2 - 1))
    assert risks([[1, 0], [1, close]]) == set()
    [first, second] = warnings_of(predict([[1, 0], [0, 1]], [0.5, 0.5]), ["a/1", "b/1"])
    assert ("a/1" in first.text, "b/1" in second.text, "50%" in first.text) == (True, True, True)


def test_a_triple_is_alike_only_if_all_its_pairs_are() -> None:
    assert MergeRisk.ALIKE not in risks([[1, 0], [1, 0.01], [0.2, 1]])


def test_every_method_says_what_it_needs() -> None:
    assert {one for one in MergeMethod if one.needs_equal_ranks} == {
        MergeMethod.LINEAR, MergeMethod.TIES, MergeMethod.DARE_TIES, MergeMethod.DARE_LINEAR,
        MergeMethod.MAGNITUDE_PRUNE,
    }  # fmt: skip
    assert MergeMethod.CAT.default_weights(4) == (0.25,) * 4
    assert MergeMethod.DARE_TIES.default_weights(2) == (1.0, 1.0)
    assert MergeMethod.TIES.as_of_a_sum((1.0, 1.0)) == (0.5, 0.5)
    assert MergeMethod.SVD.as_of_a_sum((1.0, -0.5)) == (1.0, -0.5)
    assert MergeMethod.LINEAR.for_full_models == "task_arithmetic"
    assert MergeMethod.CAT.for_full_models is None
