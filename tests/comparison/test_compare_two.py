"""Comparison of any two versions, from the store."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from deltadex import cli
from deltadex.access import Person, Role
from deltadex.comparison.compare_two import TwoVersions, compare_two
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import State, Word, Words
from deltadex.versions import record_queries as training_records
from deltadex.versions import transitions
from tests.stored import ADMIN, REGISTRY, discovered, embedded

SETTINGS = Settings(registry=REGISTRY)
ONE, OTHER = np.array([1.0, 0.0]), np.array([1.0, 0.2])


def compared(tx: Transaction, one: int, other: int) -> TwoVersions:
    found = compare_two(tx, ADMIN, SETTINGS, one, other)
    assert found is not None
    return found


def test_differences_come_first_and_equal_facts_are_apart(database: Database) -> None:
    words = Words((Word("select", 4.0),), (Word("the", -3.0),))
    with database.transaction() as tx:
        one = embedded(tx, "one", ONE, words=words, tags={"domain": "sql", "team": "x", "deltadex.similar": "y"})
        other = embedded(tx, "other", OTHER, tags={"domain": "law", "team": "x"})
        training_records.save(tx, one, {"data": {"dataset": "a"}, "parameters": {"r": "8", "lr": "1"}})
        training_records.save(tx, other, {"data": {"dataset": "b"}, "parameters": {"r": "8"}})
        found = compared(tx, one, other)
    said = [(part, str(each)) for part, each in found.differences]
    assert said[:3] == [
        ("data", "dataset: a → b"), ("tags", "tag domain: sql → law"), ("parameters", "lr: 1 → none"),
    ]  # fmt: skip
    assert not [text for _, text in said if "deltadex." in text]
    assert {"r": "8", "tag team": "x", "base": "base", "state": "embedded"}.items() <= found.equal.items()
    assert found.closeness is not None
    assert found.closeness.similarity == pytest.approx(1 / 1.04**0.5)
    assert (found.words, found.obstacle, found.note) == ((words, None), "", "")


def test_without_records_settings_are_compared_and_it_is_said(database: Database) -> None:
    with database.transaction() as tx:
        one, other = embedded(tx, "one", ONE), embedded(tx, "other", OTHER)
        training_records.save(tx, one, {"parameters": {"r": "8", "warmup": "10"}})
        tx.execute("update model_versions set training_settings = '{\"rank\": 8}' where id = %s", [one])
        found = compared(tx, one, other)
    assert ("parameters", "rank: 8 → none") in [(part, str(each)) for part, each in found.differences]
    assert "not known for other/1" in found.note


@pytest.mark.parametrize("swapped", [False, True])
def test_the_reason_is_said_where_two_versions_share_no_recipe(database: Database, swapped: bool) -> None:
    with database.transaction() as tx:
        one = embedded(tx, "one", ONE)
        failed = discovered(tx, "broken")
        transitions.mark_ended(tx, failed, state=State.FAILED, reason="The file is cut.", hint="")
        others = {
            embedded(tx, "else", ONE, base="other-base"): "different base models: ",
            embedded(tx, "weak", ONE, is_weak=True): "weak/1 changes its base too little",
            failed: "broken/1 has no embedding, its state is failed: The file is cut.",
            discovered(tx, "new"): "new/1 has no embedding, its state is discovered.",
        }
        for other, expected in others.items():
            found = compared(tx, *((other, one) if swapped else (one, other)))
            assert found.closeness is None
            assert expected in found.obstacle


def test_whoever_may_not_see_both_is_told_nothing(database: Database) -> None:
    with database.transaction() as tx:
        one, other = embedded(tx, "one", ONE), embedded(tx, "other", OTHER)
        assert compare_two(tx, Person("eve", Role.VIEWER, ("one",)), SETTINGS, one, other) is None


def test_the_command_prints_what_the_page_shows(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", ONE, tags={"domain": "sql"})
        embedded(tx, "other", OTHER, tags={"domain": "law"})
    variables = {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY, "COLUMNS": "80"}
    shown = CliRunner().invoke(cli.app, ["compare", "one/1", "other/1"], env=variables, catch_exceptions=False)
    assert "tag domain" in shown.output
    assert "Similarity 0.981." in shown.output
    assert max(map(len, shown.output.splitlines()[:12])) <= 80
    as_json = CliRunner().invoke(cli.app, ["compare", "one/1", "other/1", "--json"], env=variables)
    found = json.loads(as_json.output)
    assert {"part": "tags", "name": "tag domain", "before": "sql", "after": "law"} in found["differences"]
    assert found["comparison"]["similarity"] == pytest.approx(0.981, abs=1e-3)
