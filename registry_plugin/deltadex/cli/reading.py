"""What the commands that read the store share."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deltadex.cli.options import DatabaseUrl, DataDir, settings_from
from deltadex.cli.status import unknown_version
from deltadex.domain import VersionRow
from deltadex.settings import Settings
from deltadex.store import versions
from deltadex.store.database import Database, Transaction


@contextmanager
def reading(data_dir: DataDir, database_url: DatabaseUrl) -> Iterator[tuple[Transaction, Settings]]:
    """Give a transaction on the store that the options and the environment name, and the settings."""
    settings = settings_from(data_dir, database_url=database_url)
    with Database(settings.database_url) as database, database.transaction() as tx:
        yield tx, settings


def version_json(row: VersionRow) -> dict[str, Any]:
    """Return what JSON calls a version by."""
    return {"name": row.registered.ref.name, "version": row.registered.ref.version}


def known_version(tx: Transaction, settings: Settings, name: str, number: int) -> VersionRow:
    """Return a version that is in the store.

    Raises
    ------
    DeltadexError
        It is not.
    """
    found = versions.find(tx, settings.registry, name, number)
    if not found:
        raise unknown_version(f"{name}/{number}")
    return found[0]


def print_json(value: object) -> None:
    """Print a value on standard output, indented."""
    print(json_format.dumps(value, indent=2))
