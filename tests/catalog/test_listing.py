"""The list of registered models, from the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.catalog.listing import ListedPage, ModelOrder, choices, labels, listing
from deltadex.catalog.wanted import Wanted, parse_words
from deltadex.store.database import Database, Transaction
from deltadex.types import State
from tests.stored import ADMIN, HOUR_MS, REGISTRY, discovered, embedded

EVE = Person("eve", Role.VIEWER, ("sql-*",))


def names(page: ListedPage) -> list[str]:
    return [one.version.label for one in page.entries]


def search(tx: Transaction, text: str = "", viewer: Person = ADMIN, **conditions: object) -> list[str]:
    terms, tags = parse_words(text)
    return names(listing(tx, viewer, REGISTRY, Wanted(terms, tags, **conditions)))  # type: ignore[arg-type]


@pytest.fixture
def filled(database: Database) -> Iterator[Transaction]:
    with database.transaction() as tx:
        fill(tx)
        yield tx


def fill(tx: Transaction) -> None:
    embedded(tx, "sql-writer", np.array([1.0, 0.0]), tags={"team": "search", "domain": "sql", "deltadex.x": "law"})
    embedded(tx, "sql-writer", np.array([1.0, 0.1]), version=2, tags={"team": "Search", "domain": "sql"})
    discovered(tx, "contract-drafter", created_ms=3 * HOUR_MS, tags={"owner": "ann", "domain": "Law"})
    discovered(tx, "sql-checker", created_ms=4 * HOUR_MS, tags={"owner": "100%_sure"})


def test_each_model_is_listed_once_with_its_newest_version(filled: Transaction) -> None:
    page = listing(filled, ADMIN, REGISTRY, Wanted())
    assert names(page) == ["sql-checker/1", "contract-drafter/1", "sql-writer/2"]
    assert [one.versions for one in page.entries] == [1, 1, 2]
    assert page.in_words == "3 registered models with 4 versions"
    by_name = listing(filled, ADMIN, REGISTRY, Wanted(), order=ModelOrder.NAME)
    assert names(by_name) == ["contract-drafter/1", "sql-checker/1", "sql-writer/2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SQL", ["sql-checker/1", "sql-writer/2"]),
        ("sql search", ["sql-writer/2"]),
        ("law", ["contract-drafter/1"]),
        ("team:search", ["sql-writer/1"]),
        ("%", ["sql-checker/1"]),
        ("sql_", []),
        ("nul\0", []),
    ],
)
def test_words_are_looked_for_in_names_and_tags_of_people(filled: Transaction, text: str, found: list[str]) -> None:
    assert search(filled, text) == found


def test_conditions_go_together(filled: Transaction) -> None:
    assert search(filled, team="ann") == ["contract-drafter/1"]
    assert search(filled, domain="sql") == ["sql-writer/2"]
    assert search(filled, states=frozenset({State.EMBEDDED})) == ["sql-writer/2"]
    first, third = (datetime.fromtimestamp(hours * 3600, UTC) for hours in (1, 3))
    assert search(filled, since=first, until=third) == ["sql-writer/2"]
    assert search(filled, since=third) == ["sql-checker/1", "contract-drafter/1"]
    assert search(filled, "sql", since=third, team="ann") == []


def test_a_domain_is_also_the_name_of_a_cluster(filled: Transaction) -> None:
    [(version_id, recipe_id)] = filled.execute(
        "select model_version_id, recipe_id from embeddings order by 1 limit 1"
    ).fetchall()
    filled.execute(
        "insert into clusters (recipe_id, registry, number, label) values (%s, %s, 0, 'queries')", [recipe_id, REGISTRY]
    )
    filled.execute("insert into cluster_assignments select %s, %s, id, 1 from clusters", [recipe_id, version_id])
    [one] = listing(filled, ADMIN, REGISTRY, Wanted(domain="queries")).entries
    assert (one.version.label, one.cluster, one.domain) == ("sql-writer/1", "queries", "sql, in queries")
    assert "queries" in choices(filled, ADMIN, REGISTRY).domains


def test_hidden_models_neither_appear_nor_are_counted(filled: Transaction) -> None:
    page = listing(filled, EVE, REGISTRY, Wanted())
    assert names(page) == ["sql-checker/1", "sql-writer/2"]
    assert (page.matching.models, page.matching.versions) == (2, 3)
    assert search(filled, viewer=EVE, team="ann") == []
    seen = choices(filled, EVE, REGISTRY)
    assert seen.teams == ("100%_sure", "Search", "search")
    assert seen.domains == ("sql",)
    assert labels(filled, EVE, REGISTRY) == ["sql-checker/1", "sql-writer/2", "sql-writer/1"]


def test_a_page_beyond_the_last_is_the_last(filled: Transaction) -> None:
    page = listing(filled, ADMIN, REGISTRY, Wanted(), number=9, size=2)
    assert (page.number, page.pages, names(page)) == (2, 2, ["sql-writer/2"])
    assert "page 2 of 2" in page.in_words
    empty = listing(filled, ADMIN, "elsewhere", Wanted(), number=2)
    assert (empty.number, empty.pages, empty.entries) == (1, 1, ())
