from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from benchmarks.pool_scores import best_threshold, jackknife_error, nearest_accuracy, score, silhouettes
from deltadex.vectors import cosine_similarity

LABELS = ["sql", "sql", "sql", "legal", "legal", "cpp"]


@pytest.fixture
def similarity() -> np.ndarray:
    return cosine_similarity(np.random.default_rng(0).normal(size=(6, 4)))


def test_silhouettes_are_those_of_scikit_learn(similarity: np.ndarray) -> None:
    expected = silhouette_samples(1 - similarity, LABELS, metric="precomputed")
    np.testing.assert_allclose(silhouettes(similarity, LABELS), expected)


def test_rows_from_the_standpoint_of_each_model_need_not_agree(similarity: np.ndarray) -> None:
    """Row i decides about model i only."""
    changed = similarity.copy()
    changed[0] = -0.5
    same = silhouettes(changed, LABELS) == silhouettes(similarity, LABELS)
    assert not same[0]
    assert same[1:].all()


def test_two_clean_groups_score_one() -> None:
    found = score(np.kron(np.eye(2), np.ones((3, 3))), ["a"] * 3 + ["b"] * 3, threshold=0.5)
    assert (found.silhouette, found.accuracy, found.average_precision, found.precision, found.recall) == (1, 1, 1, 1, 1)
    assert found.error == 0


def test_only_comparable_models_are_neighbours() -> None:
    """The nearest model is of another domain once the one from the same source does not count."""
    similarity = np.array([[1.0, 0.9, 0.1, 0.5], [0.9, 1, 0.1, 0.5], [0.1, 0.1, 1, 0], [0.5, 0.5, 0, 1]])
    same = np.equal.outer(list("aaab"), list("aaab"))
    others = ~np.eye(4, dtype=bool)
    assert nearest_accuracy(similarity, same, others) == 1
    others[0, 1] = others[1, 0] = False
    assert nearest_accuracy(similarity, same, others) == pytest.approx(1 / 3)


def test_the_best_threshold_separates_what_can_be_separated() -> None:
    similarity = np.array([[1, 0.8, 0.3], [0.8, 1, 0.2], [0.3, 0.2, 1]])
    truth = np.equal.outer(list("aab"), list("aab"))
    assert best_threshold(similarity, truth) == 0.8


def test_more_models_make_the_error_smaller() -> None:
    random = np.random.default_rng(1)
    few, many = (np.kron(np.eye(3), np.ones((n, 4))) + random.normal(0, 0.5, (3 * n, 12)) for n in (4, 40))
    errors = [
        jackknife_error(cosine_similarity(rows), list(np.repeat(list("abc"), len(rows) // 3))) for rows in (few, many)
    ]
    assert errors[1] < errors[0] / 2


def test_a_difference_to_itself_has_no_error(similarity: np.ndarray) -> None:
    assert jackknife_error(similarity, LABELS, less=similarity) == 0
    assert jackknife_error(similarity, LABELS, less=similarity.T**2) > 0
