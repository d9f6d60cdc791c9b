"""`find`: errors in the examples need no service, and words need no training."""

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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "There are no examples"),
        (b'{"text": "good"}\n{"text": }\n', "Line 2 is not an example"),
        (b"\xff\xfe\x00", "Line 1 is not an example"),
    ],
)
def test_a_file_without_examples_is_a_stated_error(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_bytes(content)
    result = CliRunner().invoke(app, ["find", "--examples", str(file), "--base", "acme/base"])
    assert isinstance(result.exception, ExamplesError)
    assert says in result.exception.message
    assert '"completion"' in result.exception.hint


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["find", "--examples", str(tmp_path / "none"), "--base", "acme/base"])
    assert result.exit_code == 2


@pytest.mark.parametrize("arguments", [[], ["--base", "acme/base"], ["sql", "--examples", __file__, "--base", "b"]])
def test_words_and_examples_are_alternatives(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["find", *arguments])
    assert result.exit_code == 2
    assert "either words, or --examples" in result.output


def test_words_find_models_at_once(database: Database, tmp_path: Path) -> None:
    with database.transaction() as tx:
        embedded(tx, "contract-drafter", np.array([1.0, 0.0]), tags={"team": "legal", "domain": "contracts"})
    given = {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}
    [found] = json.loads(deltadex("find", "legal", "contracts", "--json", **given).stdout)
    assert (found["name"], found["matches_in"]) == ("contract-drafter", ["name", "tags"])
    assert "contract-drafter/1" in deltadex("find", "contract", **given).stdout
    assert "No model has any of these words" in deltadex("find", "german", **given).stdout
