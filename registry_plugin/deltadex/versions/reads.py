"""Model versions as a viewer may see them."""

from __future__ import annotations

from collections.abc import Collection

from deltadex.access import Person
from deltadex.errors import AccessDenied, UnsupportedCheckpoint
from deltadex.store.database import Transaction
from deltadex.types import State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions.queries import StateChange


def listing(
    tx: Transaction, viewer: Person, registry: str, *, states: Collection[State] | None = None
) -> list[VersionRow]:
    """Return all versions of a registry, or those in the given states: by name and then newest first, masked ones last.

    Masked ones are in the order of their ids; another order would tell how their names are sorted.
    """
    rows = versions.listing(tx, registry, states=states)
    hidden = [row for row in rows if not viewer.sees(row.registered.ref.name)]
    ids = {row.id for row in hidden}
    return viewer.view_each([row for row in rows if row.id not in ids] + sorted(hidden, key=lambda row: row.id))


def find(tx: Transaction, viewer: Person, registry: str, name: str, version: int | None = None) -> list[VersionRow]:
    """Return the versions of one registered model, newest first and deleted ones last; empty for a hidden model."""
    return versions.find(tx, registry, name, version) if viewer.sees(name) else []


def names(tx: Transaction, viewer: Person, registry: str) -> list[str]:
    """Return the registered models that the viewer may see and that have a version in the registry, by name."""
    return [name for name in versions.names(tx, registry) if viewer.sees(name)]


def history(tx: Transaction, viewer: Person, version_id: int) -> list[StateChange]:
    """Return every state a version was in, oldest first; empty for a hidden version."""
    return versions.history(tx, version_id) if sees_versions(tx, viewer, version_id) else []


def require_readable(tx: Transaction, viewer: Person, version_id: int) -> None:
    """Raise unless a version is seen, and is a finetune that a model can be loaded from, as far as that is known.

    Raises
    ------
    AccessDenied
        The viewer may not see it, or there is none.
    UnsupportedCheckpoint
        It failed, is unsupported, or was skipped: a worker could not read it either.
    """
    if not sees_versions(tx, viewer, version_id):
        raise AccessDenied("This version is not known", hint="`deltadex status` lists the versions.")
    row = versions.get(tx, version_id)
    if row.state in (State.FAILED, State.UNSUPPORTED, State.SKIPPED, State.DELETED):
        raise UnsupportedCheckpoint(f"{row.label} is {row.state}: {row.reason}", hint=row.hint)


def sees_versions(tx: Transaction, viewer: Person, *version_ids: int) -> bool:
    """Return whether the viewer may see all of these versions; unknown ids count as hidden."""
    rows = versions.by_ids(tx, version_ids)
    return all(each in rows and viewer.sees(rows[each].registered.ref.name) for each in version_ids)
