"""Taught strings as a viewer may see them: of versions that are visible, and masked unless asked otherwise."""

from __future__ import annotations

from dataclasses import replace

from deltadex.access import Person
from deltadex.asked.queries import AskedState
from deltadex.errors import StoreError
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.taught import queries as taught
from deltadex.taught.queries import TaughtRow
from deltadex.versions.reads import sees_versions


def get(tx: Transaction, viewer: Person, settings: Settings, search_id: int, *, is_revealed: bool = False) -> TaughtRow:
    """Return one search.

    Parameters
    ----------
    is_revealed
        True for the strings in clear.

    Raises
    ------
    StoreError
        There is none with this id, or the viewer may not see its version.
    """
    row = taught.get(tx, settings.registry, search_id)
    if not sees_versions(tx, viewer, row.model_version_id):
        raise StoreError(f"There is no search with id {search_id}", hint="Check that the link is complete.")
    return row if is_revealed else _masked(row)


def latest_of(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    version_id: int,
    *,
    is_done: bool = False,
    is_revealed: bool = False,
) -> TaughtRow | None:
    """Return the latest search of a version; None if there is none that the viewer may see.

    Parameters
    ----------
    is_done
        True for the latest with a result.
    is_revealed
        True for the strings in clear.
    """
    if not sees_versions(tx, viewer, version_id):
        return None
    states = [AskedState.DONE] if is_done else list(AskedState)
    row = taught.latest_of(tx, settings.registry, version_id, states=states)
    return row if row is None or is_revealed else _masked(row)


def _masked(row: TaughtRow) -> TaughtRow:
    return row if row.result is None else replace(row, result=row.result.masked)
