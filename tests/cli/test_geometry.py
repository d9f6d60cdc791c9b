"""The geometry of a registry from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deltadex.geometry.measure import measure_where_due
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.geometry.test_measure import DIMENSION, fill
from tests.stored import REGISTRY, embedded


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        fill(tx)
    measure_where_due(database, Settings(registry=REGISTRY))
    return {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(tmp_path),
    }


def test_every_answer_has_its_sentence_its_numbers_and_its_null(filled: dict[str, str]) -> None:
    [found] = json.loads(deltadex("geometry", "--json", **filled).stdout)
    step = next(one for one in found["differences"] if one["name"] == "version 1 → 2")
    assert step["answered"]
    assert step["groups"] == 20
    assert step["alignment"]["chance"]["low"] < step["alignment"]["chance"]["high"] < step["alignment"]["value"]
    assert step["adjusted_p"] <= 0.05


def test_it_says_what_the_numbers_mean_and_what_chance_gives(filled: dict[str, str]) -> None:
    said = deltadex("geometry", COLUMNS="200", **filled).stdout
    assert "20 of 20 models follow the others" in said
    assert "by chance" in said


def test_a_registry_without_pairs_says_so(database: Database, tmp_path: Path) -> None:
    with database.transaction() as tx:
        embedded(tx, "alone", np.ones(DIMENSION), tags={"domain": "sql"})
    variables = {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY}
    said = deltadex("geometry", "--recompute", DELTADEX_DATA_DIR=str(tmp_path), COLUMNS="200", **variables).stdout
    assert "too early to say" in said or "No model has two versions" in said


def test_a_recipe_is_chosen_by_the_start_of_its_digest(filled: dict[str, str]) -> None:
    [found] = json.loads(deltadex("geometry", "--json", **filled).stdout)
    [same] = json.loads(deltadex("geometry", "--json", "--recipe", found["recipe"][:8], **filled).stdout)
    assert same == found
    done = deltadex("geometry", "--recipe", "no-such-digest", **filled)
    assert done.returncode == 2
    assert "--recipe" in done.stderr


def test_it_is_read_with_its_time_until_it_is_made_anew(database: Database, filled: dict[str, str]) -> None:
    [before] = json.loads(deltadex("geometry", "--json", **filled).stdout)
    with database.transaction() as tx:
        embedded(tx, "another", np.ones(DIMENSION))
    [still] = json.loads(deltadex("geometry", "--json", **filled).stdout)
    [now] = json.loads(deltadex("geometry", "--json", "--recompute", **filled).stdout)
    assert still == before
    assert (before["versions"], now["versions"]) == (40, 41)
    assert before["found_at"] < now["found_at"]
    assert "41 versions; `--recompute` measures it now" in deltadex("geometry", COLUMNS="200", **filled).stdout


def test_what_was_not_measured_yet_says_who_does_it(database: Database, filled: dict[str, str]) -> None:
    with database.transaction() as tx:
        tx.execute("delete from geometries")
    [found] = json.loads(deltadex("geometry", "--json", **filled).stdout)
    assert found["note"] in deltadex("geometry", COLUMNS="200", **filled).stdout
    assert "a worker does so" in found["note"]


def test_an_empty_registry_says_what_to_do_next(database: Database, tmp_path: Path) -> None:
    done = deltadex("geometry", DELTADEX_DATABASE__URL=database.url, DELTADEX_DATA_DIR=str(tmp_path))
    assert done.returncode == 0
    assert "`deltadex status`" in done.stdout
