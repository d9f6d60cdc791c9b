"""`deltadex status`: versions by state, followed as they change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from deltadex.store.database import Database
from deltadex.types import State
from deltadex.versions import transitions
from tests.stored import REGISTRY, discovered


def test_watching_shows_each_change(database: Database, tmp_path: Path) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx, "model")
    variables = {
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "deltadex", "status", "model", "--watch", "--json"]
    with subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        lines = map(json.loads, following.stdout)
        assert [row["state"] for row in next(lines)] == ["discovered"]
        with database.transaction() as tx:
            transitions.mark_ended(tx, version_id, state=State.FAILED, reason="truncated")
        assert [(row["state"], row["reason"]) for row in next(lines)] == [("failed", "truncated")]
        following.terminate()
