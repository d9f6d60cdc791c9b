"""`find` orders its models by similarity, by a metric, or by both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deltadex.cli import app
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.stored import embedded

#: Angle to the model that is asked for, in degrees, and the loss that the run logged.
MODELS = {"asked": (0, 2.5), "close": (5, 3.0), "unlogged": (10, None), "good": (15, 1.0)}


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        for name, (degrees, loss) in MODELS.items():
            angle = np.radians(degrees)
            version_id = embedded(tx, name, np.array([np.cos(angle), np.sin(angle), 0.0]))
            if loss is not None:
                metrics = json.dumps({"eval_loss": loss})
                tx.execute("update model_versions set metrics = %s where id = %s", [metrics, version_id])
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


def test_models_are_ordered_by_a_metric_and_a_predicted_one_is_marked(filled: dict[str, str]) -> None:
    asked = ("find", "--like", "asked", "--rank", "score", "--metric", "eval_loss", "--lower-is-better")
    found = json.loads(deltadex(*asked, "--json", **filled).stdout)
    scores = {one["name"]: one["score"] for one in found["models"]}
    assert next(iter(scores)) == "good"
    assert scores["good"] == {"value": 1.0, "predicted_from": 0}
    assert scores["unlogged"]["predicted_from"] == 3
    said = deltadex(*asked, COLUMNS="120", **filled).stdout
    assert "~2.1" in said
    assert "is predicted from neighbours" in said
    assert "evaluated on the same data" in " ".join(said.split())


def test_the_setting_of_the_keeper_names_the_metric_too(filled: dict[str, str]) -> None:
    setting = {"DELTADEX_THRESHOLDS__KEEPER_METRIC": "-eval_loss"}
    found = json.loads(deltadex("find", "--like", "asked", "--rank", "both", "--json", **filled, **setting).stdout)
    assert {one["name"] for one in found["models"]} >= {"good", "close", "unlogged"}
    assert found["models"][-1]["name"] != "good"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--like", "asked", "--rank", "score"], "needs --metric"),
        (["--like", "asked", "--metric", "f1"], "goes with --rank"),
        (["sql", "--rank", "both"], "--rank and --metric go with"),
    ],
)
def test_a_metric_goes_with_an_order_that_needs_one(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["find", *arguments])
    assert result.exit_code == 2
    assert says in result.output
