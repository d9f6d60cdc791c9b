"""The contract of the command line: exit codes, hints, JSON, and no tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deltadex.store.database import Database
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.importing import imported_by
from tests.stored import discovered, embedded

SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])


def deltadex(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DELTADEX_")}
    return subprocess.run(
        [sys.executable, "-m", "deltadex", *arguments],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> dict[str, str]:
    """The variables with which the command line reads a small registry."""
    with database.transaction() as tx:
        for version, vector in ((1, SQL), (2, SQL + 0.01), (3, LEGAL)):
            embedded(tx, "sql-writer", vector, version=version)
        embedded(tx, "copy", SQL, weights="sql-writer/1")
        broken = discovered(tx, "broken")
        transitions.mark_ended(tx, broken, state=versions.State.FAILED, reason="truncated", hint="upload it again")
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "says"),
    [
        (["status"], {}, 1, "deltadex up"),
        (["neighbors", "no-version"], {}, 2, "NAME/VERSION"),
        (["no-such-command"], {}, 2, "no-such-command"),
        (["status"], {"DELTADEX_DATABASE__URL": "postgresql://u:hunter2@127.0.0.1:9/x"}, 3, "127.0.0.1:9"),
        (["status"], {"DELTADEX_TRACKING_URL": "x"}, 1, "DELTADEX_TRACKING_URI"),
        (["status"], {"DELTADEX_OWNERSHIP__MUST_ATTEST": "high"}, 1, "no JSON"),
    ],
)
def test_errors_are_stated_with_a_code_and_without_a_traceback(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], code: int, says: str
) -> None:
    done = deltadex(*arguments, **{"DELTADEX_DATA_DIR": str(tmp_path), **variables})
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_a_file_that_cannot_be_written_is_a_stated_error(filled: dict[str, str]) -> None:
    for arguments in (["inventory", "--format", "csv"], ["check", "sql-writer/1"]):
        done = deltadex(*arguments, "--output", "/nowhere/x", **filled)
        assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: /nowhere/x: No such file or directory")


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    assert "Traceback" in deltadex("status", "--debug", DELTADEX_DATA_DIR=str(tmp_path)).stderr


def test_a_command_that_needs_no_large_library_waits_for_none() -> None:
    large = {"mlflow", "sklearn", "scipy", "pandas", "torch", "transformers"}
    assert large & imported_by("import deltadex.cli") == set()


def test_doctor_is_healthy_only_when_all_is(filled: dict[str, str]) -> None:
    done = deltadex("doctor", "--json", **filled)
    assert done.returncode == 1
    healthy = {check["name"]: check["is_healthy"] for check in json.loads(done.stdout)}
    assert healthy == {
        "store": True,
        "registry": False,
        "rights": False,
        "scheduler": False,
        "watcher": False,
        "engine": True,
        "witnesses": True,
    }


def test_status_shows_states_reasons_and_history(filled: dict[str, str]) -> None:
    rows = {
        row["name"] + f"/{row['version']}": row for row in json.loads(deltadex("status", "--json", **filled).stdout)
    }
    assert rows["broken/1"]["state"] == "failed"
    one = deltadex("status", "broken/1", **filled).stdout
    assert "truncated" in one
    assert "upload it again" in one
    assert "discovered" in one
    assert deltadex("status", "unheard-of", **filled).returncode == 1


def test_retry_starts_a_new_attempt(filled: dict[str, str]) -> None:
    assert "attempt 2" in deltadex("retry", "broken/1", **filled).stdout
    [row] = json.loads(deltadex("status", "broken/1", "--json", **filled).stdout)
    assert (row["state"], row["attempt"], row["hint"]) == ("discovered", 2, "")


def test_the_analyses_answer_in_words_and_in_json(filled: dict[str, str]) -> None:
    near = json.loads(deltadex("neighbors", "sql-writer/1", "--json", **filled).stdout)
    assert near[0]["name"] == "copy"
    assert near[0]["similarity"] == pytest.approx(1)
    [found] = json.loads(deltadex("duplicates", "--threshold", "0.99", "--json", **filled).stdout)
    kinds = [
        (group["kind"], [f"{one['name']}/{one['version']}" for one in group["versions"]]) for group in found["groups"]
    ]
    assert kinds == [("exact", ["copy/1", "sql-writer/1"]), ("near", ["copy/1", "sql-writer/2"])]
    proposal = found["groups"][0]["proposal"]
    assert (proposal["keep"], proposal["reason"]) == ({"name": "copy", "version": 1}, "the newest")
    assert found["thresholds"]["near, similarity"]["value"] == 0.99
    [drifted] = json.loads(deltadex("drift", "sql-writer", "--json", **filled).stdout)
    assert [step["is_drift"] for step in drifted["steps"]] == [False, True]
    assert [len(step["from_previous"]["probe_distances"]) for step in drifted["steps"]] == [5, 5]
    assert drifted["steps"][1]["from_first"]["distance"] > 0.9
    assert (drifted["alias"], drifted["steps"][1]["change"]) == (None, "jump")
    [domains] = json.loads(deltadex("clusters", "--recompute", "--json", **filled).stdout)
    assert domains["alone"] == [{"name": "sql-writer", "version": 3}]
    for command in (["neighbors", "sql-writer/1"], ["duplicates"], ["drift", "sql-writer"], ["clusters"]):
        done = deltadex(*command, **filled)
        assert done.returncode == 0
        assert "copy" in done.stdout or "drift" in done.stdout


def test_neighbors_are_narrowed_mixed_and_explained(filled: dict[str, str]) -> None:
    options = ("--model", "sql-writer", "--until", "1970-01-01T02:30:00", "-k", "5", "--min-similarity", "0.5")
    done = json.loads(deltadex("neighbors", "copy/1", *options, "--explain", "--json", **filled).stdout)
    assert [(one["name"], one["version"], one["exact"]) for one in done["neighbors"]] == [
        ("sql-writer", 1, True),
        ("sql-writer", 2, True),
    ]
    assert done["plan"]["route"] == "scan"
    mixed = json.loads(deltadex("neighbors", "sql-writer/3", "--with", "copy/1", "--json", **filled).stdout)
    assert [one["version"] for one in mixed] == [2, 1]
    assert mixed[0]["similarity"] == pytest.approx(0.5**0.5, abs=0.01)
    said = deltadex("neighbors", "copy/1", "--tag", "team=none", "--explain", **filled).stdout
    assert "nothing to compare it with" in said
    assert "scan: the recipe has no index; 0 of 0 candidates" in said
    wrong = deltadex("neighbors", "copy/1", "--tag", "team", **filled)
    assert (wrong.returncode, "KEY=VALUE" in wrong.stderr) == (2, True)
