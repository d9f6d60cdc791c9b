"""`deltadex news`, in words and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

from deltadex.reviews import actions as reviews
from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.reviews.test_groups import SETTINGS, same
from tests.stored import REGISTRY


def test_what_is_new_is_said_in_sentences(database: Database, tmp_path: Path) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", aliases=("champion",))
        tx.execute("update model_versions set weights_bytes = 1000000")
        reviews.follow(tx, SETTINGS)
    variables = {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(tmp_path),
        "DELTADEX_COSTS__GB_MONTH": "20",
    }
    shown = " ".join(deltadex("news", **variables).stdout.split())
    assert "1 new finding. Open now: 1 × same weights." in shown
    assert "Begin with finding 1: b/1 has the same weights as a/1, which is champion" in shown
    assert "1.0 MB, 50.0% of all bytes in the registry, 0.02 USD a month for storage" in shown
    said = json.loads(deltadex("news", "--json", **variables).stdout)
    assert said["begin_with"]["finding"] == 1
    assert said["worth"]["freed_bytes"] == 1_000_000
