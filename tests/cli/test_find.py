"""`find`: errors in the examples need no service; words and mixtures need no training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deltadex.cli import app
from deltadex.errors import ExamplesError
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.stored import embedded


@pytest.fixture
def company(database: Database, tmp_path: Path) -> dict[str, str]:
    """The variables with which the command line reads a small registry."""
    with database.transaction() as tx:
        embedded(tx, "contract-drafter", np.array([1.0, 0.0]), tags={"team": "legal", "domain": "contracts"})
        embedded(tx, "sql-writer", np.array([0.0, 1.0]), tags={"team": "data"})
        embedded(tx, "both", np.array([0.7, 0.7]), tags={"team": "data"})
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("examples.jsonl", b"", "There are no examples"),
        ("examples.jsonl", b'{"text": "good"}\n{"text": }\n', "Line 2 is not an example"),
        ("examples.jsonl", b"\xff\xfe\x00", "Line 1 is not an example"),
        ("examples.csv", b"prompt,completion\n2?,\n", "Line 2 is not an example: completion is empty"),
        ("examples.parquet", b"PAR1", "examples.parquet cannot be read"),
    ],
)
def test_a_file_without_examples_is_a_stated_error_with_a_right_one(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    result = CliRunner().invoke(app, ["find", "--examples", str(file), "--base", "acme/base"])
    assert isinstance(result.exception, ExamplesError)
    assert says in result.exception.message
    assert "completion" in result.exception.hint or "save_to_disk" in result.exception.hint


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["find", "--examples", str(tmp_path / "none"), "--base", "acme/base"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [[], ["--base", "acme/base"], ["sql", "--examples", __file__, "--base", "b"], ["sql", "--like", "legal"]],
)
def test_words_examples_and_mixtures_are_alternatives(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["find", *arguments])
    assert result.exit_code == 2
    assert "either words, or --examples" in result.output


def test_words_find_models_at_once(company: dict[str, str]) -> None:
    [found] = json.loads(deltadex("find", "legal", "contracts", "--json", **company).stdout)
    assert (found["name"], found["matches_in"]) == ("contract-drafter", ["name", "tags"])
    assert "contract-drafter/1" in deltadex("find", "contract", **company).stdout
    assert "No model has any of these words" in deltadex("find", "german", **company).stdout
    filtered = json.loads(deltadex("find", "contract", "data", "--tag", "team=data", "--json", **company).stdout)
    assert [one["name"] for one in filtered] == ["both", "sql-writer"]


def test_a_mixture_finds_the_model_that_is_both(company: dict[str, str]) -> None:
    done = deltadex("find", "--like", "0.5 contract-drafter + 0.5 sql-writer/1", "--json", **company)
    found = json.loads(done.stdout)
    assert [one["meant"] for one in found["mixture"]] == ["contract-drafter/1", "sql-writer/1"]
    assert [one["name"] for one in found["models"]] == ["both"], "what it is made of is left out"
    assert found["models"][0]["similarity"] == pytest.approx(1)
    assert "The closest model is both/1" in deltadex("find", "--like", "contract-drafter", **company).stdout
    only = deltadex("find", "--like", "contract-drafter", "--tag", "team=legal", **company)
    assert "No version meets the conditions." in only.stdout


def test_an_unknown_part_of_a_mixture_is_a_stated_error(company: dict[str, str]) -> None:
    done = deltadex("find", "--like", "0.5 legal + sql-writer", **company)
    assert done.returncode == 1
    assert "'legal'" in done.stderr
    assert "0.5 legal + 0.5 code" in done.stderr
