"""Dendrograms: every model once, and each join at its similarity."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.clusters.dendrogram import dendrogram
from deltadex.vectors import cosine_similarity
from tests.synthetic import families


def test_families_stand_beside_each_other_and_join_late() -> None:
    rows = families([4, 3, 1])
    tree = dendrogram(rows)
    assert sorted(tree.leaves) == list(range(8))
    family = np.repeat([0, 1, 2], [4, 3, 1])[tree.leaves]
    assert np.count_nonzero(np.diff(family)) == 2
    similarity = cosine_similarity(rows)
    tops = np.sort(tree.similarities[:, 1])
    assert tops[-1] == pytest.approx(np.sort(similarity[np.triu_indices(8, k=1)])[-1])
    assert (tops[:2] < 0.5).all()
    assert (tops[2:] > 0.8).all()


def test_each_join_stands_on_leaves_or_on_earlier_joins() -> None:
    tree = dendrogram(families([3, 3, 2]))
    feet = np.column_stack([tree.places[:, [0, 3]].ravel(), tree.similarities[:, [0, 3]].ravel()])
    tops = np.column_stack([tree.places[:, 1:3].mean(axis=1), tree.similarities[:, 1]])
    leaves = np.column_stack([np.arange(8), np.ones(8)])
    # All but the last join is the foot of another one.
    expected = np.vstack([leaves, np.delete(tops, tops[:, 1].argmin(), axis=0)])
    assert np.array_equal(feet[np.lexsort(feet.T)], expected[np.lexsort(expected.T)])


def test_the_order_of_rows_changes_nothing_that_can_be_seen() -> None:
    rows = families([3, 5, 2])
    tree, other = dendrogram(rows), dendrogram(rows[::-1])
    assert np.array_equal(tree.leaves, 9 - other.leaves)
    assert np.array_equal(tree.similarities, other.similarities)


@pytest.mark.parametrize("count", [0, 1])
def test_one_model_is_a_leaf_without_joins(count: int) -> None:
    tree = dendrogram(families([count]))
    assert (len(tree.leaves), len(tree.places), len(tree.similarities)) == (count, 0, 0)
