"""Candidates in an order, on a real store."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.embeddings import queries as embeddings
from deltadex.search import reads as search
from deltadex.search.neighbors import Neighbor
from deltadex.search.query_vector import Questions
from deltadex.selection.rank import SAME_DATA, Ranking, rank
from deltadex.selection.ranking import Metric, RankBy
from deltadex.store.database import Database, Transaction
from tests.stored import ADMIN, REGISTRY, embedded

LOSS = Metric("eval_loss", lower_is_better=True)
#: Angle to the task in degrees, and the loss that the run logged.
MODELS = {"close": (5, 3.0), "unlogged": (10, None), "good": (15, 1.0), "far": (80, 0.1)}


def fill(tx: Transaction) -> None:
    for name, (degrees, loss) in MODELS.items():
        angle = np.radians(degrees)
        version_id = embedded(tx, name, np.array([np.cos(angle), np.sin(angle), 0.0]))
        if loss is not None:
            tx.execute(
                "update model_versions set metrics = jsonb_build_object('eval_loss', %s::float8) where id = %s",
                [loss, version_id],
            )


def ranked(tx: Transaction, viewer: Person, by: RankBy, metric: Metric | None = LOSS, k: int = 3) -> Ranking[Neighbor]:
    [recipe] = embeddings.recipes(tx, REGISTRY)
    task = Questions(recipe.id, REGISTRY, np.array([[1.0, 0.0, 0.0]], dtype=np.float32))
    [found] = search.answer(tx, viewer, task, k=k)
    return rank(tx, viewer, found.neighbors, recipe_id=recipe.id, registry=REGISTRY, by=by, metric=metric)


def names(ranking: Ranking[Neighbor]) -> list[str]:
    return [one.candidate.version.registered.ref.name for one in ranking.placed]


def test_only_the_candidates_are_ordered_and_a_missing_metric_is_predicted(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        by_score = ranked(tx, ADMIN, RankBy.SCORE)
        by_similarity = ranked(tx, ADMIN, RankBy.SIMILARITY, None)
        by_both = ranked(tx, ADMIN, RankBy.BOTH)
    assert names(by_similarity) == ["close", "unlogged", "good"]
    assert not by_similarity.note
    assert names(by_score) == ["good", "unlogged", "close"]
    guess = next(one.score for one in by_score.placed if one.candidate.version.registered.ref.name == "unlogged")
    assert guess is not None
    assert guess.neighbors == 3
    weights = np.cos(np.radians([5, 5, 70]))
    assert guess.value == pytest.approx(weights @ [3.0, 1.0, 0.1] / weights.sum(), rel=1e-3)
    assert by_score.note == f"eval_loss of 1 of 3 is predicted from neighbours. {SAME_DATA}"
    assert set(names(by_both)) == {"close", "unlogged", "good"}


def test_a_metric_that_nobody_logged_leaves_the_order_by_similarity_and_says_so(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        found = ranked(tx, ADMIN, RankBy.SCORE, Metric("f1"))
    assert names(found) == ["close", "unlogged", "good"]
    assert found.note.startswith("No version here logged f1")


def test_hidden_versions_have_no_metric_and_predict_none(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        found = ranked(tx, Person("eve", Role.VIEWER, ("unlogged",)), RankBy.SCORE)
    assert [one.score for one in found.placed] == [None, None, None]


def test_an_order_by_score_needs_a_metric(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        with pytest.raises(ValueError, match="needs a metric"):
            ranked(tx, ADMIN, RankBy.BOTH, None)
