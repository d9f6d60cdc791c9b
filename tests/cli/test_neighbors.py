"""`deltadex neighbors --settings-removed`."""

from __future__ import annotations

import json
from pathlib import Path

from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.store.examples import REGISTRY
from tests.test_settings_removed import fill


def test_neighbours_without_settings_say_what_they_rest_on(database: Database, tmp_path: Path) -> None:
    with database.transaction() as tx:
        fill(tx, silent=3)
    given = {
        "DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY, "DELTADEX_DATA_DIR": str(tmp_path),
    }  # fmt: skip
    found = json.loads(deltadex("neighbors", "sql-06/1", "--settings-removed", "-k", "3", "--json", **given).stdout)
    assert [one["name"][:3] for one in found["neighbors"]] == ["sql"] * 3
    assert (found["with_settings"], found["compared"], found["names"]) == (14, 17, ["learning_rate"])
    assert found["explained"] > 0
    shown = deltadex("neighbors", "sql-06/1", "--settings-removed", "-k", "17", COLUMNS="200", **given).stdout
    assert "learned from 14 of 17 versions" in shown
    assert "unknown: only centred" in shown
    assert "learning_rate 0.00" in shown
