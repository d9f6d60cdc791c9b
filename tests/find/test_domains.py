"""The domain of a task: told by directions in which versions of one domain agree, and refused where none leads."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.embeddings import queries as embeddings
from deltadex.find.domains import FEWEST_DOMAINS, DomainDirections, Matrix
from deltadex.find.queries import TaskDelta
from deltadex.find.search import models_for
from deltadex.ingest.round import recompute_where_due
from deltadex.search.filters import Conditions
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.stored import ADMIN, REGISTRY, embedded

SETTINGS = Settings(registry=REGISTRY)
DOMAINS, DIMENSION, MEMBERS = FEWEST_DOMAINS + 2, 32, 4
#: Column in which versions of one domain differ, as by their learning rate, more than domains do.
STYLE = DIMENSION - 1


def member(domain: int, style: float, random: np.random.Generator) -> Matrix:
    made = 0.03 * random.standard_normal(DIMENSION)
    made[domain] += 1
    made[STYLE] += style
    return made


def members(random: np.random.Generator) -> tuple[Matrix, Matrix]:
    ids = np.repeat(np.arange(DOMAINS), MEMBERS)
    return np.stack([member(one, 0.4 * random.standard_normal(), random) for one in ids]), ids


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_what_versions_of_one_domain_differ_in_counts_less(random: np.random.Generator) -> None:
    vectors, ids = members(random)
    task = member(3, 2.5, random)
    vectors[ids == 5] += 1.5 * np.eye(DIMENSION)[STYLE]
    by_cosine = ids[(vectors @ task / np.linalg.norm(vectors, axis=1)).argmax()]
    found = DomainDirections.of(vectors, ids).nearest(task)
    assert (by_cosine, found.domain_id) == (5, 3)
    assert found.score > SETTINGS.find.least_domain_score


def test_a_task_between_domains_or_of_none_has_a_low_score(random: np.random.Generator) -> None:
    vectors, ids = members(random)
    known = DomainDirections.of(vectors, ids)
    assert known.nearest(vectors[ids == 2].mean(0)).score > 1
    assert known.nearest(vectors[ids == 2].mean(0) + vectors[ids == 7].mean(0)).score < SETTINGS.find.least_domain_score
    assert known.nearest(member(DOMAINS + 3, 0.0, random)).score < SETTINGS.find.least_domain_score


def test_the_length_of_deltas_does_not_matter(random: np.random.Generator) -> None:
    vectors, ids = members(random)
    lengths = random.uniform(0.1, 10, len(ids))[:, None]
    one = DomainDirections.of(vectors, ids).nearest(vectors[0])
    other = DomainDirections.of(vectors * lengths, ids).nearest(5 * vectors[0])
    assert one.domain_id == other.domain_id
    assert one.score == pytest.approx(other.score)


def test_domains_of_equal_members_are_compared_as_they_are() -> None:
    vectors, ids = np.repeat(np.eye(3), 2, axis=0), np.repeat(np.arange(3), 2)
    assert DomainDirections.of(vectors, ids).nearest(np.array([0.1, 0.0, 1.0])).domain_id == 2


@pytest.fixture
def company(database: Database, random: np.random.Generator) -> Database:
    """Fourteen domains of eight models each."""
    with database.transaction() as tx:
        for domain in range(DOMAINS):
            for number in range(8):
                vector = member(domain, 0.1 * random.standard_normal(), random)
                embedded(tx, f"d{domain:02}-{number}", vector, tags={"domain": f"d{domain:02}"})
    recompute_where_due(database, SETTINGS)
    return database


def task(database: Database, vector: Matrix, *halves: Matrix) -> TaskDelta:
    with database.transaction() as tx:
        [recipe] = embeddings.recipes(tx, REGISTRY)
    return TaskDelta(recipe.digest, vector, 0.2, 0.9, "", halves=halves, halves_planned=len(halves))


def test_with_many_domains_the_domain_decides(company: Database, random: np.random.Generator) -> None:
    delta = task(company, member(3, 0.0, random), member(3, 0.1, random), member(4, 0.0, random))
    with company.transaction() as tx:
        found = models_for(tx, ADMIN, SETTINGS, delta)
        missing = models_for(tx, ADMIN, SETTINGS, task(company, member(DOMAINS + 3, 0.0, random)))
    assert found.is_close
    assert found.in_words.startswith("The closest model is d03-")
    assert "of the domain d03" in found.in_words
    assert found.certainty
    assert found.certainty.agreeing == 1
    assert not missing.is_close
    assert missing.in_words.startswith("No domain is distinctly close: d")
    assert missing.models, "the closest are shown nevertheless"


def test_conditions_that_leave_nothing_of_the_domain_are_said(company: Database, random: np.random.Generator) -> None:
    delta = task(company, member(3, 0.0, random))
    with company.transaction() as tx:
        found = models_for(tx, ADMIN, SETTINGS, delta, conditions=Conditions(tags={"domain": "d05"}))
        only = models_for(tx, ADMIN, SETTINGS, delta, conditions=Conditions(name="d03-4"))
    assert not found.is_close
    assert found.in_words == "The domain is d03, and no version of it that you may see meets the conditions."
    assert [one.version.label for one in only.models] == ["d03-4/1"]
    assert only.is_close


def test_a_domain_of_hidden_models_is_not_named(company: Database, random: np.random.Generator) -> None:
    viewer = Person("ann", Role.VIEWER, ("d05-*",))
    with company.transaction() as tx:
        found = models_for(tx, viewer, SETTINGS, task(company, member(3, 0.0, random)))
    assert "d03" not in found.in_words
