"""Search for models by words."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.clusters.reads import called
from deltadex.find.by_words import models_with
from deltadex.search.filters import Conditions
from deltadex.store.database import Database, Transaction
from deltadex.types import Word, Words
from tests.stored import ADMIN, REGISTRY, discovered, embedded

VECTOR = np.array([1.0, 0.0])


@pytest.fixture
def company(database: Database) -> Database:
    with database.transaction() as tx:
        embedded(tx, "contract-drafter", VECTOR, version=1, tags={"domain": "law"})
        embedded(tx, "contract-drafter", VECTOR, version=2, description="Writes clauses.", tags={"domain": "legal"})
        embedded(tx, "helper", VECTOR, tags={"domain": "legal", "deltadex.similar": "sql"})
        embedded(tx, "other", VECTOR, words=Words((Word("Contracts", 3.0),), (Word("legal", -2.0),)))
        discovered(tx, "waiting", tags={"team": "SQL"})
    return database


def found(tx: Transaction, text: str, viewer: Person = ADMIN) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.version.label, one.places) for one in models_with(tx, viewer, REGISTRY, text)]


def test_names_come_before_tags_and_tags_before_what_a_model_promotes(company: Database) -> None:
    with company.transaction() as tx:
        assert found(tx, "contract") == [("contract-drafter/2", ("name",)), ("other/1", ("words",))]
        assert found(tx, "legal contracts") == [
            ("contract-drafter/2", ("name", "tags")),
            ("helper/1", ("tags",)),
            ("other/1", ("words",)),
        ]


def test_only_the_latest_version_counts_and_no_embedding_is_needed(company: Database) -> None:
    with company.transaction() as tx:
        assert found(tx, "law") == []
        assert found(tx, "clause") == [("contract-drafter/2", ("description",))]
        assert found(tx, "sql") == [("waiting/1", ("tags",))], "our own tags don't count"


@pytest.mark.parametrize("name", ["text-to-sql", "gpt-oss", "llama-3.2", "qwen2.5", "acme/contract", "a.b_c-d", "v2"])
def test_every_name_finds_itself_and_nothing_else(company: Database, name: str) -> None:
    with company.transaction() as tx:
        discovered(tx, name)
        discovered(tx, "unlike")
        assert f"{name}/1" in [label for label, _ in found(tx, name)]
        assert "unlike/1" not in [label for label, _ in found(tx, name)]


def test_there_are_no_operators_and_long_texts_are_cut(company: Database) -> None:
    with company.transaction() as tx:
        discovered(tx, "long", description="clause " + "x1 y2 " * 300_000)
        assert [label for label, _ in found(tx, "contract -drafter")] == ["contract-drafter/2", "other/1"]
        assert [label for label, _ in found(tx, "clause\0s")] == ["contract-drafter/2", "long/1"]


@pytest.mark.parametrize("text", ["", "  ", "the", "nothing-like-it", "'", "& | !", "<->", "\\", "the:*", '"'])
def test_odd_texts_find_nothing_and_are_no_error(company: Database, text: str) -> None:
    with company.transaction() as tx:
        assert found(tx, text) == []


def test_hidden_models_are_not_found(company: Database) -> None:
    with company.transaction() as tx:
        assert found(tx, "legal", Person("eve", Role.VIEWER, ("helper",))) == [("helper/1", ("tags",))]


def test_a_hidden_name_of_a_cluster_finds_nothing(database: Database) -> None:
    viewer = Person("eve", Role.VIEWER, ("sql-*",))
    with database.transaction() as tx:
        own, hidden = embedded(tx, "sql-writer", VECTOR), embedded(tx, "merger-sql", VECTOR, tags={"team": "secret"})
        query = "insert into clusters (recipe_id, registry, number, label) values (1, 'acme', 0, 'secret') returning id"
        [[cluster_id]] = tx.execute(query).fetchall()
        for each in (own, hidden):
            tx.execute("insert into cluster_assignments values (1, %s, %s, 1)", [each, cluster_id])
        for person, names in ((ADMIN, ["merger-sql", "sql-writer"]), (viewer, [])):
            conditions = Conditions(clusters=called(tx, person, REGISTRY, "secret"))
            found = models_with(tx, person, REGISTRY, "sql", conditions=conditions)
            assert sorted(one.version.registered.ref.name for one in found) == names
