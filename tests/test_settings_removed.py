"""Neighbours less what training settings explain, on a real store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltadex import settings_removed
from deltadex.domain import Provenance, VersionRow
from deltadex.errors import AnalysisError
from deltadex.settings_removed import FEWEST_FOR_EACH, FEWEST_VERSIONS, Removed
from deltadex.store import embeddings, search, versions
from deltadex.store.database import Database, Transaction
from tests.store.examples import REGISTRY, discovered, embedding

DIMENSION = 32
DOMAINS = ("sql", "legal", "code")


def add(tx: Transaction, name: str, vector: np.ndarray, logged: dict[str, float | str], *, weights: str = "") -> None:
    value = replace(embedding(vector, weights=weights or name))
    embeddings.save(
        tx, discovered(tx, name), value, base_name="base", artifact_uri="", is_weak=False,
        provenance=Provenance(settings=logged),
    )  # fmt: skip


def fill(tx: Transaction, *, models: int = 18, silent: int = 0) -> None:
    """Models of three domains; the learning rate moves each along one line, farther than domains differ."""
    random = np.random.default_rng(0)
    for number in range(models):
        rate = 10 ** float(random.uniform(-5, -2))
        vector = np.eye(DIMENSION)[number % 3] + random.normal(0, 0.02, DIMENSION)
        vector += (2 * (np.log10(rate) + 3.5)) * np.eye(DIMENSION)[10] + 4 * np.eye(DIMENSION)[11]
        logged = {} if number < silent else {"learning_rate": rate, "template": "chat"}
        add(tx, f"{DOMAINS[number % 3]}-{number:02}", vector, logged)


def ask(tx: Transaction, name: str, **values: int) -> Removed:
    return settings_removed.neighbors(tx, REGISTRY, find(tx, name), **values)


def find(tx: Transaction, name: str) -> VersionRow:
    [row] = versions.find(tx, REGISTRY, name, 1)
    return row


def test_models_of_one_domain_are_nearest_whatever_their_learning_rate(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        found = ask(tx, "sql-06", limit=5)
        published = search.neighbors(tx, find(tx, "sql-06").id, k=5).neighbors
    assert {one.version.registered.ref.name[:3] for one in found.neighbors} == {"sql"}
    assert {one.version.registered.ref.name[:3] for one in published} != {"sql"}
    assert (found.compared, found.with_settings, found.names) == (17, 17, ("learning_rate",))
    assert 0.5 < found.explained < 1
    assert "learned from 17 of 17 versions" in found.basis


def test_a_version_is_no_witness_of_itself_and_copies_count_once(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, silent=2)
        vector = np.ones(DIMENSION)
        for name in ("copy-1", "copy-2", "copy-3"):
            add(tx, name, vector, {"learning_rate": 1e-4}, weights="shared")
        assert ask(tx, "sql-06").with_settings == 15 + 1
        assert ask(tx, "copy-1").with_settings == 16
        assert {one.version.registered.ref.name for one in ask(tx, "copy-1", limit=2).neighbors} == {"copy-2", "copy-3"}


def test_below_the_number_at_which_it_means_anything_it_says_what_it_takes(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, silent=18 - FEWEST_VERSIONS)
        with pytest.raises(AnalysisError, match=f"takes {FEWEST_VERSIONS} versions .* there are {FEWEST_VERSIONS - 1}"):
            ask(tx, "sql-15")
        with pytest.raises(AnalysisError, match="sql-00/1 has no training settings on record") as told:
            ask(tx, "sql-00")
        add(tx, "one-more", np.ones(DIMENSION), {"learning_rate": 1e-3})
        assert ask(tx, "sql-15").with_settings == FEWEST_VERSIONS
    assert "num_train_epochs" in told.value.hint


def test_each_further_setting_takes_more_versions(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(1, 3 * FEWEST_FOR_EACH + 1):
            logged: dict[str, float | str] = {
                "learning_rate": number * 1e-4,
                "rank": float(number),
                "epochs": 1.0 * number,
            }
            add(tx, f"m-{number}", np.random.default_rng(number).normal(size=DIMENSION), logged)
        with pytest.raises(AnalysisError, match=r"takes 21 versions .* there are 20, and epochs, learning_rate, rank"):
            ask(tx, "m-1")
        add(tx, "one-more", np.ones(DIMENSION), {"learning_rate": 1e-3})
        assert ask(tx, "m-1").with_settings == 3 * FEWEST_FOR_EACH


def test_settings_that_are_all_the_same_are_nothing_to_remove(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(FEWEST_VERSIONS + 1):
            add(tx, f"m-{number}", np.random.default_rng(number).normal(size=DIMENSION), {"rank": 8.0})
        with pytest.raises(AnalysisError, match="none differ"):
            ask(tx, "m-0")


def test_a_registry_that_does_not_fit_in_memory_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_removed, "MOST_VERSIONS", 17)
    with database.transaction() as tx:
        fill(tx)
        with pytest.raises(AnalysisError, match="18 versions of base are too many"):
            ask(tx, "sql-00")
