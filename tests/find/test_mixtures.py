"""Mixtures: what they are read as, and what their parts are taken for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.access import Person, Role
from deltadex.errors import DeltadexError
from deltadex.find.mixtures import Part, mixed_query, parse
from deltadex.find.search import models_like
from deltadex.ingest.round import recompute_where_due
from deltadex.search.filters import Conditions
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.vectors import unit_vectors
from tests.stored import ADMIN, REGISTRY, embedded

SETTINGS = Settings(registry=REGISTRY)
NAMES = st.from_regex(r"[a-z][a-z /+-]{0,10}[a-z]", fullmatch=True).filter(lambda text: " +" not in text)


@pytest.fixture
def company(database: Database) -> Database:
    """Two domains of eight models each, and two models between them."""
    random = np.random.default_rng(0)
    with database.transaction() as tx:
        for place, domain in enumerate(("legal", "code")):
            for number in range(8):
                vector = 0.05 * random.standard_normal(16)
                vector[place] += 1
                embedded(tx, f"{domain}-{number}", vector, tags={"domain": domain})
        for name, shares in (("between", (1.0, 1.0)), ("rather-legal", (3.0, 1.0))):
            embedded(tx, name, np.array([*shares, *[0.0] * 14]), tags={"team": name})
    recompute_where_due(database, SETTINGS)
    return database


def nearest(tx: Transaction, text: str, viewer: Person = ADMIN, conditions: Conditions | None = None) -> str:
    query = mixed_query(tx, viewer, SETTINGS, parse(text))
    return models_like(tx, viewer, query, conditions=conditions).models[0].version.label


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("legal", (Part("legal"),)),
        ("0.5 legal + 0.5 code", (Part("legal", 0.5), Part("code", 0.5))),
        (" .25*c++ +  3 × sql-writer/3 ", (Part("c++", 0.25), Part("sql-writer/3", 3.0))),
        ("2024-model", (Part("2024-model"),)),
        ("german + 1 code / sql", (Part("german"), Part("code / sql"))),
    ],
)
def test_a_mixture_is_weights_and_names(text: str, parts: tuple[Part, ...]) -> None:
    assert parse(text) == parts


@pytest.mark.parametrize("text", ["", " + ", "legal +", "+ legal", "0 legal", "0.5", " + ".join("abcdefghi")])
def test_what_is_no_mixture_is_a_stated_error(text: str) -> None:
    with pytest.raises(DeltadexError) as error:
        parse(text)
    assert error.value.hint


@given(st.lists(st.tuples(st.floats(0.001, 1000), NAMES), min_size=1, max_size=8))
def test_every_mixture_is_read_as_it_is_written(parts: list[tuple[float, str]]) -> None:
    text = " + ".join(f"{weight:f} {name}" for weight, name in parts)
    assert parse(text) == tuple(Part(name, float(f"{weight:f}")) for weight, name in parts)


def test_domains_models_and_versions_can_be_mixed(company: Database) -> None:
    with company.transaction() as tx:
        assert nearest(tx, "0.5 legal + 0.5 Code") == "between/1"
        assert nearest(tx, "0.75 legal + 0.25 code") == "rather-legal/1"
        assert nearest(tx, "code-3/1 + legal-3") == "between/1"
        query = mixed_query(tx, ADMIN, SETTINGS, parse("3 code + legal-3/1"))
        assert query.meant == ("domain code", "legal-3/1")
        code, legal = unit_vectors(query.questions.vectors)[0][[1, 0]]
        assert code / legal == pytest.approx(3, rel=0.2)


def test_what_it_is_made_of_is_left_out_and_conditions_hold(company: Database) -> None:
    with company.transaction() as tx:
        query = mixed_query(tx, ADMIN, SETTINGS, parse("legal-3"))
        labels = [one.version.label for one in models_like(tx, ADMIN, query, k=20).models]
        assert "legal-3/1" not in labels
        assert len(labels) == 17
        assert nearest(tx, "legal", conditions=Conditions(tags={"domain": "code"})).startswith("code-")


def test_the_answer_has_domains_and_no_threshold(company: Database) -> None:
    with company.transaction() as tx:
        found = models_like(tx, ADMIN, mixed_query(tx, ADMIN, SETTINGS, parse("legal")))
    assert [one.cluster.name for one in found.domains] == ["legal", "code"]
    assert found.domains[0].similarity == pytest.approx(1)
    assert found.closeness is None
    assert found.is_close


def test_unknown_and_hidden_names_are_the_same_error(company: Database) -> None:
    eve = Person("eve", Role.VIEWER, ("legal-*",))
    with company.transaction() as tx:
        assert nearest(tx, "legal-1", eve)
        for viewer, name in ((ADMIN, "medical"), (eve, "code-1"), (eve, "code-1/1"), (eve, "code")):
            with pytest.raises(DeltadexError, match=f"'{name}'") as error:
                mixed_query(tx, viewer, SETTINGS, parse(f"legal + {name}"))
            assert "legal" in error.value.hint
            assert viewer is ADMIN or "code." not in error.value.hint.split("Write")[0]
