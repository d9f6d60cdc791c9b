"""`deltadex across`: what can be compared, and the nearest versions of other bases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deltadex.across import queries as meanings
from deltadex.across.meaning import Meaning
from deltadex.across.texts import MEANING_TEXTS
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.stored import embedded


@pytest.fixture
def given(database: Database, tmp_path: Path) -> dict[str, str]:
    """Four finetunes on each of two bases, one of which has a name that looks like markup; one is not compared yet."""
    domains = np.random.default_rng(0).normal(size=(4, len(MEANING_TEXTS.texts))).astype(np.float32)
    with database.transaction() as tx:
        for base in ("small", "[bold]large"):
            for number, domain in enumerate(domains):
                name = f"{base[-5:]}-{number}"
                version_id = embedded(tx, name, np.eye(len(base))[number], base=base)
                meanings.save(
                    tx, version_id, Meaning(domain, domain[:9]), texts_digest=MEANING_TEXTS.digest,
                    weights_digest=f"{name}/1", base_digest=base, base_name=base,
                )  # fmt: skip
        embedded(tx, "new", np.ones(5), base="small")
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


def test_the_nearest_versions_of_other_bases_are_listed_as_what_they_are(given: dict[str, str]) -> None:
    table = deltadex("across", "small-2/1", COLUMNS="80", **given).stdout
    assert "[bold]large" in table
    assert "never proof of a duplicate" in " ".join(table.split())
    found = json.loads(deltadex("across", "small-2/1", "--limit", "2", "--json", **given).stdout)
    assert found["nearest"][0] == {
        "name": "large-2",
        "version": 1,
        "base": "[bold]large",
        "similarity": pytest.approx(1),
    }
    assert (len(found["nearest"]), found["compared"], found["note"]) == (2, 4, None)


def test_without_a_version_it_says_what_can_be_compared(given: dict[str, str]) -> None:
    said = deltadex("across", **given).stdout
    assert "deltadex across --update" in said
    assert json.loads(deltadex("across", "--json", **given).stdout)["bases"] == [
        {"base_name": "[bold]large", "versions": 4, "known": 4},
        {"base_name": "small", "versions": 5, "known": 4},
    ]
    assert "--update" in deltadex("across", "new/1", **given).stdout


def test_an_unknown_base_or_version_is_a_stated_error(given: dict[str, str]) -> None:
    wrong = deltadex("across", "small-2/1", "--base", "gigantic", **given)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "gigantic" in wrong.stderr
    assert deltadex("across", "nobody/1", **given).returncode == 1
    assert deltadex("across", "nobody", **given).returncode == 2
