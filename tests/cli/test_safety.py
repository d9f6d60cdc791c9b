"""`safety`: it states the cost before it asks, and shows the verdict with its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deltadex.cli import app
from deltadex.safety.measure import SafetyBase
from deltadex.safety.queries import SAFETY
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.safety import states
from tests.safety.test_queries import measured
from tests.stored import REGISTRY, embedded


@pytest.fixture
def variables(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        embedded(tx, "support", np.ones(3))
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


def show(variables: dict[str, str], *options: str, given: str | None = None) -> str:
    done = CliRunner().invoke(app, ["safety", "support/1", *options], env={**variables, "COLUMNS": "80"}, input=given)
    return " ".join(done.output.split()) if not done.exception else str(done.exception)


def test_the_cost_is_stated_before_anything_starts(variables: dict[str, str], database: Database) -> None:
    assert "was never measured" in show(variables)
    said = CliRunner().invoke(app, ["safety", "support/1", "--measure"], env=variables, input="n\n")
    assert said.exit_code == 1
    assert "It reads 80 short prompts, and the base 256, once for all its finetunes." in " ".join(said.output.split())
    with database.transaction() as tx:
        assert SAFETY.waiting(tx, REGISTRY) == []
    assert "is asked (0%)" in show(variables, "--measure", "--yes")


@pytest.mark.parametrize(
    ("base", "separation", "said"),
    [
        (states.base(), 6.0, "Kept: "),
        (states.base(), 0.0, "Collapsed: it keeps "),
        (states.base(refusal=0.0), 0.0, "Nothing to lose: this base has none"),
    ],
)
def test_the_verdict_is_shown_with_its_numbers(
    variables: dict[str, str], database: Database, base: SafetyBase, separation: float, said: str
) -> None:
    with database.transaction() as tx:
        version_id = 1
        measured(tx, base, version_id, separation=separation)
    shown = show(variables)
    assert f"support/1 {said}" in shown
    for part in ("AUROC along the direction", "gap (nats)", "sycophancy", "Nothing judges them"):
        assert part in shown
    found = json.loads(deltadex("safety", "support/1", "--json", **variables).stdout)["measured"]
    assert found["verdict"].startswith(said)
    assert found["collapsed"] == said.startswith("Collapsed")
    assert (found["kept"] is None) == said.startswith("Nothing")
    assert found["base"]["auroc"]["value"] > 0.9
    assert set(found["traits"]) == set(base.trait_aurocs)


def test_a_failed_measurement_is_a_stated_error(variables: dict[str, str], database: Database) -> None:
    show(variables, "--measure", "--yes")
    with database.transaction() as tx:
        [one] = SAFETY.waiting(tx, REGISTRY)
        SAFETY.fail(tx, one.id, reason="no base", hint="Set it.")
    assert "The measurement of support/1 failed: no base" in show(variables)
