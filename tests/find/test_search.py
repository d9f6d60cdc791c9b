"""Answers to searches by examples: the threshold, the certainty and the domains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltadex.access import HIDDEN, Person, Role
from deltadex.embeddings import queries as embeddings
from deltadex.engine.examples import Example
from deltadex.errors import BaseNotFound
from deltadex.find.halves import FEWEST_EXAMPLES, halves
from deltadex.find.queries import TaskDelta
from deltadex.find.search import ask, bases, known_base, models_for
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import FloatArray
from tests.stored import ADMIN, REGISTRY, embedded

SETTINGS = Settings(registry=REGISTRY, find={"least_similarity": 0.8})


def vector(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float32)


@pytest.fixture
def delta(database: Database) -> TaskDelta:
    with database.transaction() as tx:
        embedded(tx, "legal", vector(1, 0, 0))
        embedded(tx, "code", vector(0, 1, 0))
        [recipe] = embeddings.recipes(tx, REGISTRY)
    return TaskDelta(recipe.digest, vector(1, 0.1, 0), 0.2, 0.9, "")


def test_a_close_model_is_named_in_a_sentence(database: Database, delta: TaskDelta) -> None:
    with database.transaction() as tx:
        found = models_for(tx, ADMIN, SETTINGS, delta)
    assert found.is_close
    assert found.in_words == "The closest model is legal/1: similarity 1.00."
    assert found.certainty is None


def test_nothing_is_close_says_by_how_much_and_still_shows_the_closest(database: Database, delta: TaskDelta) -> None:
    with database.transaction() as tx:
        found = models_for(tx, ADMIN, SETTINGS, replace(delta, vector=vector(0.31, 0.1, 0.94)))
    assert not found.is_close
    assert found.in_words == "No model is close: the closest reaches .31, needed .80."
    assert [one.version.label for one in found.models] == ["legal/1", "code/1"]


def test_halves_that_find_another_model_lower_the_certainty(database: Database, delta: TaskDelta) -> None:
    repeated = replace(delta, halves=(vector(1, 0.2, 0), vector(0.1, 1, 0), vector(2, 0, 0)), halves_planned=4)
    with database.transaction() as tx:
        certainty = models_for(tx, ADMIN, SETTINGS, repeated).certainty
    assert certainty is not None
    assert (certainty.agreeing, certainty.halves, certainty.planned) == (2, 3, 4)
    assert certainty.lowest == pytest.approx(0.9806, abs=1e-4)
    assert certainty.highest == pytest.approx(1)
    assert certainty.in_words.startswith("2 of 3 trainings on halves of the examples find the same domain")


@pytest.mark.parametrize("count", [4, 5, 20, 51])
def test_halves_are_disjoint_as_large_as_can_be_and_the_same_each_time(count: int) -> None:
    examples = [Example("", str(number)) for number in range(count)]
    found = halves(examples, 2)
    assert found == halves(examples, 2)
    assert [len(half) for half in found] == [count // 2] * 4
    for one, other in (found[:2], found[2:]):
        assert not {*one} & {*other}
        assert {*one, *other} <= {*examples}
    assert {*found[0]} != {*found[2]}


def test_too_few_examples_have_no_halves() -> None:
    assert halves([Example("", "x")] * (FEWEST_EXAMPLES - 1), 2) == []


def test_bases_that_are_hidden_models_are_unknown(database: Database) -> None:
    viewer, settings = Person("eve", Role.VIEWER, ("sql-*",)), Settings(registry=REGISTRY)
    hidden = "models:/merger-base/3"
    with database.transaction() as tx:
        embedded(tx, "merger-rumour", vector(1, 0), base=hidden)
        embedded(tx, "sql-writer", vector(1, 0), base="llama")
        assert bases(tx, ADMIN, settings) == [hidden, "llama"]
        assert bases(tx, viewer, settings) == ["llama"]
        assert known_base(tx, viewer, settings, None) == "llama"
        for guess in (hidden, HIDDEN):
            with pytest.raises(BaseNotFound, match="No base is called") as refused:
                ask(tx, viewer, settings, guess, [Example("question", "answer")])
            assert refused.value.hint == "Known bases: llama."
