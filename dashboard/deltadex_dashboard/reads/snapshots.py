"""Snapshots of the store, and a cache of reads that lasts until the data change."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import streamlit as st

from deltadex.access import Person
from deltadex.ingest import queries as watchers
from deltadex.settings import Settings, load_settings
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from deltadex_dashboard import visitor

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

#: Interval of full garbage collections, which include the frozen objects.
_COLLECT_SECONDS = 600


@dataclass(frozen=True)
class Snapshot:
    """One registry in one store, at one revision of its data, as one person may see it.

    Attributes
    ----------
    workspaces
        Workspaces of MLflow in which the person has a role; none where MLflow has no workspaces.
    """

    settings: Settings
    revision: str
    person: Person
    workspaces: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Key of the cache; people with equal rights share its entries."""
        return self.settings.url_of("dashboard"), self.settings.registry, self.revision, *self.person.models

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction for reads."""
        with _transaction(self.settings) as tx:
            yield tx


def snapshot() -> Snapshot:
    """Return a snapshot of the store at its current revision.

    Raises
    ------
    SettingsError
        No database is configured.
    StoreError
        Postgres is unreachable, or its tables are missing.
    AccessDenied
        No person with a role is logged in.
    """
    settings = load_settings()
    workspaces: tuple[str, ...] = ()
    if settings.workspaces:
        settings, workspaces = _in_workspace(settings)
    person = visitor.person(settings)
    with Snapshot(settings, "", person, workspaces).transaction() as tx:
        return Snapshot(settings, revision(tx, settings.registry), person, workspaces)


def _in_workspace(settings: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings for the chosen workspace, and the workspaces that the viewer may choose from."""
    with _transaction(settings) as tx:
        known = watchers.workspaces(tx, settings.server)
    workspaces = visitor.memberships(settings, known)
    chosen = visitor.choice(workspaces)
    return (settings.within(chosen) if chosen else settings), workspaces


def cached(
    read: Callable[Concatenate[Snapshot, _Arguments], _Result],
) -> Callable[Concatenate[Snapshot, _Arguments], _Result]:
    """Cache the results of a function by snapshot and arguments."""
    # As a resource: results are frozen, and copying a table of vectors at every click would cost more than reading it.
    cache = st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={Snapshot: lambda snapshot: snapshot.key})
    cached_read: Callable[Concatenate[Snapshot, _Arguments], _Result] = cache(read)
    return cached_read


@st.cache_resource(max_entries=1, show_spinner=False)
def freeze_cached(revision: str) -> None:  # noqa: ARG001 - runs once per revision
    """Exclude cached results from the full garbage collection that Streamlit makes after every run.

    With 10,000 versions each collection would take 0.3 to 0.5 s, during which no request is answered.
    """
    _collect()
    gc.freeze()


@st.cache_resource(ttl=_COLLECT_SECONDS, show_spinner=False)
def _collect() -> None:
    # Frozen objects are still freed by reference counting; this frees the cycles among them.
    gc.unfreeze()
    gc.collect()


@contextmanager
def _transaction(settings: Settings) -> Iterator[Transaction]:
    database = settings.database
    with _database(settings.url_of("dashboard"), database.pool_size, database.role).transaction() as tx:
        yield tx


@st.cache_resource(show_spinner=False, max_entries=4, on_release=Database.close)
def _database(url: str, pool_size: int, role: str | None) -> Database:
    return Database(url, pool_size=pool_size, role=role)
