"""`deltadex method`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.stored import embedded


@pytest.fixture
def given(database: Database, tmp_path: Path) -> dict[str, str]:
    with database.transaction() as tx:
        for number in range(3):
            embedded(tx, f"m{number}", np.array([1.0, 0.1 * number]))
    return {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": "acme", "DELTADEX_DATA_DIR": str(tmp_path)}


def test_the_own_method_is_shown_and_changed(given: dict[str, str]) -> None:
    assert json.loads(deltadex("method", "--json", **given).stdout) == {
        "own": "content",
        "versions": {"content": 0, "published": 3},
    }
    changed = deltadex("method", "set", "published", **given)
    assert (changed.returncode, changed.stdout) == (0, "The registry's own method is published now.\n")
    [line] = [one for one in deltadex("method", **given).stdout.splitlines() if "the registry's own" in one]
    assert "published" in line
    assert "3" in line


def test_a_change_that_embeds_versions_again_is_asked_about(given: dict[str, str]) -> None:
    deltadex("method", "set", "published", **given)
    refused = deltadex("method", "set", "content", **given)  # nobody is there to say yes
    assert refused.returncode == 1
    assert "3 versions will be embedded again" in refused.stdout
    assert json.loads(deltadex("method", "--json", **given).stdout)["own"] == "published"
    changed = deltadex("method", "set", "content", "--yes", **given)
    assert "3 versions are embedded again, from the next minute on" in changed.stdout
    unknown = deltadex("method", "set", "other", **given)
    assert unknown.returncode == 2
    assert "'other' is not one of 'content'" in unknown.stderr
