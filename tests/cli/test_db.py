"""Maintenance of the store from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

from deltadex.store.migrate import shipped
from tests.cli.test_main import deltadex


def test_an_empty_database_is_migrated_once_and_says_what_it_holds(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    given = {"DELTADEX_DATABASE__URL": new_database_url(), "DELTADEX_DATA_DIR": str(tmp_path)}
    names = [migration.name for migration in shipped()]
    before = deltadex("db", "status", **given)
    assert "missing: `deltadex db migrate`" in before.stdout
    assert json.loads(deltadex("db", "migrate", "--json", **given).stdout) == {"applied": names, "without_rights": []}
    assert "up to date" in deltadex("db", "migrate", **given).stdout
    status = json.loads(deltadex("db", "status", "--json", **given).stdout)
    assert (sorted(status["applied"]), status["pending"], status["without_rights"]) == (names, [], [])
    assert status["size_bytes"] > 0
    assert names[-1] in deltadex("db", "status", **given).stdout


def test_a_small_recipe_needs_no_index(new_database_url: Callable[[], str], tmp_path: Path) -> None:
    given = {"DELTADEX_DATABASE__URL": new_database_url(), "DELTADEX_DATA_DIR": str(tmp_path)}
    deltadex("db", "migrate", **given)
    assert json.loads(deltadex("db", "index", "--json", **given).stdout) == {"built": []}
