"""`deltadex words`, and words of clusters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.store.database import Database
from deltadex.types import Word, Words
from tests.cli.test_main import deltadex
from tests.stored import discovered, embedding

SAID = Words((Word("SELECT", 4.25), Word("[bold]", 3.0)), (Word("The", -2.5),))


@pytest.fixture
def given(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        for number, said in enumerate((SAID, SAID, None)):
            version_id = discovered(tx, f"m{number}", tags={"team": "a"})
            made = replace(embedding(np.array([1.0, 0.01 * number]), weights=f"w{number}"), words=said)
            space = embeddings.save(tx, version_id, made, base_name="lm", artifact_uri="runs:/a", is_weak=False)
            promoted_tokens.save(tx, version_id, space, made)
        discovered(tx, "waiting")
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


def test_a_version_says_what_it_promotes_and_demotes(given: dict[str, str]) -> None:
    table = deltadex("words", "m0/1", **given).stdout
    assert all(said in table for said in ("SELECT", "+4.2", "[bold]", "The", "-2.5", "lm"))
    [space] = json.loads(deltadex("words", "m0/1", "--json", **given).stdout)["embeddings"]
    assert space["words"]["promoted"] == [{"text": "SELECT", "score": 4.25}, {"text": "[bold]", "score": 3.0}]
    assert not space["too_weak"]


def test_why_there_are_no_words_is_said(given: dict[str, str]) -> None:
    assert "deltadex retry" in deltadex("words", "m2/1", **given).stdout
    assert "once it is embedded" in deltadex("words", "waiting/1", **given).stdout
    assert json.loads(deltadex("words", "m2/1", "--json", **given).stdout)["embeddings"][0]["words"] is None
    unknown = deltadex("words", "nobody/1", **given)
    assert (unknown.returncode, unknown.stdout) == (1, "")


def test_clusters_say_which_word_came_from_where(given: dict[str, str]) -> None:
    [domains] = json.loads(deltadex("clusters", "--recompute", "--json", **given).stdout)
    [cluster] = domains["clusters"]
    assert cluster["name"] == "select", "a tag or a fragment of markup is no name"
    assert "tokens that 2 or more of 3 versions promote" in cluster["named_by"]
    origins = {term["text"]: (term["origin"], term["members"]) for term in cluster["terms"]}
    assert origins == {"team=a": ("tag", 3), "select": ("promoted token", 2), "[bold]": ("promoted token", 2)}
    assert "select" in deltadex("clusters", **given, COLUMNS="200").stdout
