"""Witnesses of the decision log from the command line, and a forged log that they give away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltadex.store.database import Database
from tests.witness import commands, forging


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Callable[..., Any]:
    """Run `deltadex` on a log with three entries and a folder as its witness."""
    forging.with_finding(database)
    forging.decide(database, 3)
    (tmp_path / "heads").mkdir()

    def run(*arguments: str, code: int = 0, witnesses: tuple[str, ...] = (f"folder:{tmp_path}/heads",)) -> Any:
        return commands.run(*arguments, url=database.url, folder=tmp_path, witnesses=witnesses, code=code)

    return run


def test_a_forged_log_is_found_without_anybody_having_noted_its_head(
    run: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    assert "1 of 1 witnesses took the head" in run("review", "publish")
    [state] = run("review", "witnesses", "--json")
    assert (state["name"], state["entries"], state["error"]) == (f"folder:{tmp_path}/heads", 3, "")
    assert "the log contains all of its 1 heads, up to entry 3" in run("review", "verify")
    forging.rewrite(database, 2)
    found = run("review", "verify", "--json", code=4)
    assert (found["is_whole"], found["broken"]) == (False, None)
    assert "was rewritten" in found["witnesses"][0]["problem"]
    assert found["witnesses"][0]["denied"]["entries"] == 3
    forging.cut(database, 1)
    said = run("review", "verify", code=4)
    assert f"✗ folder:{tmp_path}/heads: The log was cut: it has 2 entries, and the witness holds 3:" in said


def test_a_rewritten_ownership_history_is_found_by_a_noted_head(run: Callable[..., Any], database: Database) -> None:
    forging.attest(database)
    noted = run("review", "verify", "--json")["ownership"]["head"]
    assert noted.startswith("4:")
    assert run("review", "verify", "--head", noted, "--json")["is_whole"]
    assert "was number 3 and is number 4" in run("review", "verify", "--head", f"3{noted[1:]}", code=4)
    forging.rewrite_ownership(database)
    assert run("review", "verify", "--json")["is_whole"], "nothing in the database shows it"
    assert f"{noted[2:14]}… is missing" in run("review", "verify", "--head", noted, code=4)


def test_a_witness_that_does_not_answer_is_no_proof(run: Callable[..., Any], tmp_path: Path) -> None:
    away = (f"folder:{tmp_path}/away",)
    assert "no such folder" in run("review", "publish", witnesses=away, code=3)
    assert "no such folder" in run("review", "witnesses", witnesses=away)
    assert "did not answer" in run("review", "verify", witnesses=away, code=3)
    assert "the head was not published to" in run("doctor", witnesses=away, code=1)


def test_without_witnesses_the_commands_say_what_cannot_be_told(run: Callable[..., Any]) -> None:
    assert "can't tell a log that was cut off" in run("review", "verify", witnesses=())
    assert "No witness is set" in run("review", "witnesses", witnesses=())
    assert "DELTADEX_WITNESSES" in run("review", "publish", witnesses=(), code=1)
