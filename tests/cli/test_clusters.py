"""`deltadex clusters` and related commands: listing, recomputing and renaming domains, and mixtures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltadex.access import system_user
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.clusters.test_runs import add, like
from tests.stored import REGISTRY, embedded


@pytest.fixture
def variables(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        add(tx, "sql", range(4))
        add(tx, "legal", range(3))
        embedded(tx, "mixed", like("sql", 50, and_also="legal"))
        embedded(tx, "weak", like("sql", 51), is_weak=True)
    return {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(tmp_path),
    }


def test_clusters_are_read_as_they_were_found_and_keep_the_name_they_are_given(variables: dict[str, str]) -> None:
    [before] = json.loads(deltadex("clusters", "--json", **variables).stdout)
    assert (before["found_at"], before["clusters"], len(before["unplaced"])) == (None, [], 8)
    [found] = json.loads(deltadex("clusters", "--recompute", "--json", **variables).stdout)
    legal = next(one for one in found["clusters"] if one["name"] == "legal")
    assert {one["name"] for one in legal["versions"]} == {f"legal-{number}" for number in range(3)}
    assert found["cut"] > found["method"]["min_similarity"]
    renamed = deltadex("clusters", "rename", str(legal["id"]), "Law [EU]", **variables)
    assert (renamed.returncode, renamed.stderr) == (0, "")
    [again] = json.loads(deltadex("clusters", "--recompute", "--json", **variables).stdout)
    assert [one["given_name"] for one in again["clusters"] if one["id"] == legal["id"]] == ["Law [EU]"]
    assert again["found_at"] > found["found_at"]
    said = deltadex("clusters", **variables).stdout
    assert "Law [EU]" in said
    assert system_user() in said
    unheard = deltadex("clusters", "rename", "4711", "x", **variables)
    assert (unheard.returncode, "no cluster with id 4711" in unheard.stderr) == (1, True)


def test_a_version_is_explained_in_words_and_in_json(variables: dict[str, str]) -> None:
    assert "no clusters yet" in deltadex("explain", "mixed/1", **variables).stdout
    deltadex("clusters", "--recompute", **variables)
    assert "0.7 sql + 0.3 legal" in deltadex("explain", "mixed/1", **variables).stdout
    [found] = json.loads(deltadex("explain", "mixed/1", "--json", **variables).stdout)["explanations"]
    assert [part["name"] for part in found["parts"]] == ["sql", "legal"]
    assert 0 < found["unexplained"] < 0.2
    assert "too little" in deltadex("explain", "weak/1", **variables).stdout
    assert deltadex("explain", "unheard-of/1", **variables).returncode == 1
