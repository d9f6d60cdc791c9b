"""The governance report from the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.stored import REGISTRY, discovered


@pytest.fixture
def variables(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        discovered(tx, "sql-writer")
    return {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(tmp_path),
    }


def test_the_page_and_a_table_are_written_with_their_digests(variables: dict[str, str], tmp_path: Path) -> None:
    page, table = tmp_path / "report.html", tmp_path / "versions.csv"
    for output, more in ((page, ()), (table, ("--table", "versions"))):
        done = deltadex("report", "--output", str(output), *more, "--json", **variables)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["rows"]["versions"] == 1
        assert said["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert "sql-writer" in page.read_text()
    # The digest of the table in the page is that of the exported file.
    assert said["sha256"] in page.read_text()
    assert table.read_text().splitlines()[1].startswith("sql-writer,1,discovered,")


@pytest.mark.parametrize(
    ("arguments", "hint"), [(("r.pdf",), ".html or .csv"), (("r.csv", "--table", "x"), "versions")]
)
def test_what_cannot_be_written_is_a_usage_error(
    variables: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], hint: str
) -> None:
    name, *more = arguments
    done = deltadex("report", "--output", str(tmp_path / name), *more, **variables)
    assert done.returncode == 2
    assert hint in done.stderr
    assert not (tmp_path / name).exists()
