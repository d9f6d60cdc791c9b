"""`find` reports errors in the examples before it needs any service."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltadex.cli import app
from deltadex.errors import ExamplesError


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
