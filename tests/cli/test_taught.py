"""`taught`: it states the cost before it asks, and shows strings masked unless told otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deltadex.cli import app
from deltadex.store.database import Database
from deltadex.taught.queries import TAUGHT
from tests.stored import REGISTRY, discovered
from tests.taught.test_queries import CODE, KEY, done


@pytest.fixture
def variables(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        discovered(tx, "model")
    return {
        "DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY, "DELTADEX_DATA_DIR": str(tmp_path),
        "COLUMNS": "80",
    }  # fmt: skip


def test_a_search_is_asked_and_its_result_shown_masked(
    variables: dict[str, str], database: Database, tmp_path: Path
) -> None:
    def run(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(app, ["taught", "model/1", *arguments], env=variables, input=text)

    (tmp_path / "list.txt").write_text(f"{CODE}\n")
    given = ("--canaries", str(tmp_path / "list.txt"))
    assert "was never searched" in str(run().exception)
    refused = run(*given, text="n\n")
    assert refused.exit_code == 1
    said = " ".join(refused.output.split())
    assert "model/1 and its base continue 64 texts by at most 32 tokens. 1 listed strings are scored" in said
    assert "The time is not known" in said
    with database.transaction() as tx:
        assert TAUGHT.waiting(tx, REGISTRY) == []
    asked = json.loads(run(*given, "--yes", "--json").stdout)
    assert (asked["state"], asked["result"]) == ("asked", None)
    assert "is asked (0%)" in run().output
    with database.transaction() as tx:
        done(tx, asked["id"])
    shown, as_json = run(), run("--json")
    for one in (shown, as_json):
        assert one.exit_code == 0
        assert KEY not in one.output
        assert CODE not in one.output
    assert "AK…BT" in shown.output
    assert "Not for names" in " ".join(shown.output.split())
    [found] = json.loads(as_json.stdout)["result"]["found"]
    assert (found["kind"], found["times"], found["gain"]) == ("secret", 3, 59.5)
    clear = json.loads(run("--reveal", "--json").stdout)["result"]
    assert (clear["found"][0]["text"], clear["listed"][0]["text"]) == (KEY, CODE)
    assert KEY in "".join(run("--reveal").output.split())


def test_a_failed_search_is_a_stated_error(variables: dict[str, str], database: Database) -> None:
    asked = json.loads(
        CliRunner().invoke(app, ["taught", "model/1", "--search", "--yes", "--json"], env=variables).stdout
    )
    with database.transaction() as tx:
        TAUGHT.fail(tx, asked["id"], reason="no base", hint="Set it.")
    failed = CliRunner().invoke(app, ["taught", "model/1"], env=variables)
    assert f"Search {asked['id']} failed: no base" in str(failed.exception)
