"""Ownership from the command line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltadex.cli import app
from deltadex.errors import DeltadexError
from deltadex.ownership.follow import judge_attestations
from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.versions import license_queries as licenses
from tests.stored import REGISTRY, discovered

FORMULA = "=HYPERLINK(1)"


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Callable[..., Any]:
    """Run `deltadex` in this process, and read its JSON."""
    with database.transaction() as tx:
        discovered(tx, "support", aliases=("champion",), tags={"license": "mit", "deltadex.base": "smol"})
        licenses.save(tx, discovered(tx, "support", version=2), licenses.DeclaredLicenses("", "apache-2.0"))
        discovered(tx, "[bold]odd[/]", tags={"owner": FORMULA})
    environment = {
        "DELTADEX_DATABASE__URL": database.url, "DELTADEX_DATA_DIR": str(tmp_path), "DELTADEX_REGISTRY": REGISTRY,
        "COLUMNS": "80",
    }  # fmt: skip

    def run(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, arguments, env=environment)
        if code == 1:
            assert isinstance(done.exception, DeltadexError)
            return f"{done.exception.message} {done.exception.hint}"
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout) if "--json" in arguments else done.output

    return run


def test_what_is_stated_is_shown_with_its_history(run: Callable[..., Any]) -> None:
    assert "not known" in run("own", "support")
    stated = run(
        "own", "support", "--owner", "ada", "--tier", "high", "--intended-use", "drafts", "--as", "ben", "--json"
    )
    assert stated["owner"] == {"value": "ada", "from": "stated in Deltadex", "tag": None, "remark": None}
    assert stated["attestation"]["state"] == "missing"
    assert [(one["person"], one["field"]) for one in stated["history"]] == [
        ("ben", "intended_use"), ("ben", "tier"), ("ben", "owner"),
    ]  # fmt: skip
    assert "until" in run("attest", "support", "--as", "ada")
    shown = run("own", "support")
    assert "attestation current" in shown
    assert "ada attested it" in shown
    assert run("own", "support", "--reset", "owner", "--json")["owner"]["value"] is None
    assert "ownership: 5 entries, all unchanged" in run("review", "verify").replace("\n", " ")
    assert run("review", "verify", "--json")["ownership"]["entries"] == 5


def test_wrong_values_are_refused_with_a_hint(run: Callable[..., Any]) -> None:
    assert "is in the past" in run("own", "support", "--review-by", "2020-01-01", code=1)
    assert "deltadex own support" in run("attest", "support", code=1)
    assert "is not known" in run("own", "nothing", code=1)
    run("own", "support", "--tier", "critical", code=2)
    run("own", "support", "--owner", "ada", "--reset", "owner", code=2)
    run("inventory", "--output", "x.txt", code=2)


def test_the_inventory_has_all_of_it_in_three_formats(run: Callable[..., Any], tmp_path: Path) -> None:
    run("own", "support", "--owner", "ada", "--tier", "high", "--intended-use", "drafts")
    odd, support = run("inventory", "--json")
    assert odd["owner"] == FORMULA
    assert odd["owner_from"] == "tag of the newest version"
    expected = {
        "model": "support", "versions": 2, "newest": 2, "aliases": "champion=1", "owner": "ada", "tier": "high",
        "intended_use": "drafts", "attestation": "missing", "open_findings": 0, "bases": "smol", "licenses": "mit",
        "base_licenses": "apache-2.0",
    }  # fmt: skip
    assert {key: support[key] for key in expected} == expected
    file = tmp_path / "inventory.csv"
    run("inventory", "--format", "csv", "--output", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert rows[0]["owner"] == f"'{FORMULA}"
    assert list(rows[0]) == list(support)
    shown = run("inventory")
    assert "[bold]odd[/]" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_overdue_findings_are_seen_and_come_first(run: Callable[..., Any], database: Database) -> None:
    settings = Settings(registry=REGISTRY)
    for model in ("support", "[bold]odd[/]"):
        run("own", model, "--tier", "high")
    with database.transaction() as tx:
        judge_attestations(tx, settings)
        reviews.follow(tx, settings)
    rows = run("review", "list", "--json")
    assert [row["is_overdue"] for row in rows] == [False, False]
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    run("review", "assign", str(rows[1]["finding"]), "--to", "ada", "--due", yesterday)
    later = run("review", "list", "--order", "due first", "--json")
    assert [row["finding"] for row in later] == [rows[1]["finding"], rows[0]["finding"]]
    assert later[0]["is_overdue"]
    assert f"overdue {yesterday}" in run("review", "list")
    overdue = {row["model"]: row["overdue_findings"] for row in run("inventory", "--json")}
    assert sorted(overdue.values()) == [0, 1]


def test_models_can_be_listed_by_tier_and_stated_owner(run: Callable[..., Any]) -> None:
    run("own", "support", "--owner", "ada", "--tier", "high")
    assert [row["name"] for row in run("models", "--tier", "high", "--json")] == ["support"]
    assert [row["name"] for row in run("models", "--team", "ada", "--json")] == ["support"]
    assert run("models", "--tier", "low", "--json") == []
