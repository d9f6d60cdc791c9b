"""Lookup of model versions by the label that people type: `NAME/VERSION`."""

from __future__ import annotations

from deltadex.access import Person
from deltadex.errors import DeltadexError
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions import reads as versions


def parse_label(label: str) -> tuple[str, int]:
    """Split `NAME/VERSION`.

    Raises
    ------
    DeltadexError
        There is no version number behind the last slash.
    """
    name, _, number = label.rpartition("/")
    if not name or not number.isdecimal():
        raise DeltadexError(f"{label!r} is not NAME/VERSION", hint="Write NAME/VERSION, such as sql-writer/3.")
    return name, int(number)


def known_version(tx: Transaction, viewer: Person, registry: str, name: str, number: int) -> VersionRow:
    """Return the newest version with this name and number.

    Raises
    ------
    DeltadexError
        The store has no such version, or the viewer may not see it.
    """
    found = versions.find(tx, viewer, registry, name, number)
    if not found:
        raise unknown(f"{name}/{number}")
    return found[0]


def unknown(label: str) -> DeltadexError:
    """Return the error for a model or version that has no row."""
    return DeltadexError(
        f"{label} is not known", hint="`deltadex status` lists the versions; new ones appear within seconds."
    )
