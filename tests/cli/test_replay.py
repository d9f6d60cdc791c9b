"""`replay`: it states the time before it asks, and shows the latest result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltadex.asked.queries import AskedState
from deltadex.cli import app
from deltadex.replay import queries as replays
from deltadex.replay.queries import REPLAYS
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.replay.test_queries import AGREEMENT, done
from tests.stored import REGISTRY, discovered


@pytest.fixture
def variables(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        for name in ("keeper", "other"):
            discovered(tx, name)
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "What is due?"}\nPlain text\n')
    return str(file)


def test_the_time_is_stated_before_anything_starts(variables: dict[str, str], prompts: str, database: Database) -> None:
    asked = CliRunner().invoke(app, ["replay", "keeper/1", "other/1", "--prompts", prompts], env=variables, input="n\n")
    assert asked.exit_code == 1
    assert "keeper/1 and other/1 answer 2 prompts, each with at most 64 tokens." in " ".join(asked.output.split())
    assert "Fewer than 100 show little. The time is not known" in " ".join(asked.output.split())
    with database.transaction() as tx:
        assert REPLAYS.waiting(tx, REGISTRY) == []


def test_a_replay_is_asked_and_its_result_shown(variables: dict[str, str], prompts: str, database: Database) -> None:
    arguments = ("replay", "keeper/1", "other/1")
    assert "were never replayed" in deltadex(*arguments, **variables).stderr
    asked = json.loads(deltadex(*arguments, "--prompts", prompts, "--yes", "--json", **variables).stdout)
    assert (asked["state"], asked["prompts"], asked["agreement"]) == ("asked", 2, None)
    assert "is asked (0%)" in deltadex(*arguments, **variables).stdout
    with database.transaction() as tx:
        done(tx, asked["id"])
    shown = deltadex(*arguments, "--wait", **variables).stdout
    assert AGREEMENT.verdict in " ".join(shown.split())
    evidence = json.loads(deltadex("replay", "other/1", "keeper/1", "--json", **variables).stdout)
    assert (evidence["state"], evidence["agreement"]["equal"]) == ("done", 0.5)


def test_a_failed_replay_is_a_stated_error(variables: dict[str, str], prompts: str, database: Database) -> None:
    asked = json.loads(
        deltadex("replay", "keeper/1", "other/1", "--prompts", prompts, "--yes", "--json", **variables).stdout
    )
    with database.transaction() as tx:
        REPLAYS.fail(tx, asked["id"], reason="no base", hint="Set it.")
        assert replays.get(tx, REGISTRY, asked["id"]).state is AskedState.FAILED
    failed = deltadex("replay", "keeper/1", "other/1", **variables)
    assert failed.returncode == 1
    assert f"Replay {asked['id']} failed: no base" in failed.stderr
    assert "Set it." in failed.stderr


def test_prompts_come_from_one_place(variables: dict[str, str], prompts: str) -> None:
    both = ["replay", "keeper/1", "other/1", "--prompts", prompts, "--from-run"]
    done = CliRunner().invoke(app, both, env=variables)
    assert done.exit_code == 2
    assert "either --prompts or --from-run" in done.output
