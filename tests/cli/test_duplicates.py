"""Recomputation of near duplicates from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.stored import REGISTRY, embedded


def test_recomputing_says_what_changed(database: Database, tmp_path: Path) -> None:
    with database.transaction() as tx:
        for name, last in (("one", 0.0), ("two", 0.1), ("three", 5.0)):
            embedded(tx, name, np.array([1.0, 0, last]))
    variables = {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(tmp_path),
        "DELTADEX_THRESHOLDS__NEAR_DUPLICATE_SIMILARITY": "0.95",
    }
    [first] = json.loads(deltadex("duplicates", "--recompute", "--json", **variables).stdout)
    numbers = {"versions": 3, "pairs": 1, "changed": 1, "removed": 0}
    assert first == {"recipe": first["recipe"], "base": "base", **numbers}
    again = deltadex("duplicates", "--recompute", **variables)
    assert again.returncode == 0
    assert "near duplicates" in again.stdout
    assert "comparing" in again.stderr


def test_findings_are_only_made_with_the_settings_threshold(tmp_path: Path) -> None:
    done = deltadex("duplicates", "--recompute", "--threshold", "0.5", DELTADEX_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "--threshold" in done.stderr
