"""Transactions and JSON output of the commands that read the store."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deltadex.access import Person, at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, settings_from
from deltadex.setting_groups import Login
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import VersionRow


@contextmanager
def reading(
    data_dir: DataDir, database_url: DatabaseUrl, *, as_: str | None = None, login: Login = "reader"
) -> Iterator[tuple[Transaction, Person, Settings]]:
    """Open a transaction; yield it with the person who runs the command and the settings.

    Parameters
    ----------
    login
        `dashboard` for what a person decides: this machine knows who they are, as the dashboard does.
    """
    settings = settings_from(data_dir, database_url=database_url)
    viewer = at_terminal(settings, as_=as_)
    with Database(settings.url_of(login)) as database, database.transaction() as tx:
        yield tx, viewer, settings


def version_json(row: VersionRow) -> dict[str, Any]:
    """Return the name and number of a version, as all JSON output has them."""
    return {"name": row.registered.ref.name, "version": row.registered.ref.version}


def print_json(value: object, *, one_line: bool = False) -> None:
    """Print a value on standard output and flush: indented, or on one line."""
    print(json_format.dumps(value, indent=None if one_line else 2), flush=True)
