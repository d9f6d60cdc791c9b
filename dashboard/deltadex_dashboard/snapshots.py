"""The store as it is when a page is drawn, and keeping what was read for as long as the data stay the same."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import streamlit as st

from deltadex.domain import VersionRow
from deltadex.governance.access import Person
from deltadex.settings import Settings, load_settings
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from deltadex_dashboard import visitor

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

#: How often garbage is looked for in all that was set aside.
_COLLECTED_SECONDS = 600


@dataclass(frozen=True)
class Snapshot:
    """What is read: one registry in one store, at one revision of its data, as one person may see it."""

    settings: Settings
    revision: str
    person: Person

    @property
    def key(self) -> tuple[str, ...]:
        """What answers are kept under: people who may see the same share them."""
        return self.settings.database_url, self.settings.registry, self.revision, *self.person.models

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Read from the store."""
        database = self.settings.database
        with _database(self.settings.database_url, database.pool_size, database.role).transaction() as tx:
            yield tx

    def seen(self, rows: Iterable[VersionRow]) -> list[VersionRow]:
        """Return rows without what the person may not see: masked, and not silently missing."""
        return [self.person.view(row) for row in rows]


def snapshot() -> Snapshot:
    """Look at the store as it is now.

    Raises
    ------
    SettingsError
        No database is known.
    StoreError
        Postgres is away, or its tables are missing.
    AccessDenied
        Nobody is logged in, or somebody without a role.
    """
    settings = load_settings()
    person = visitor.person(settings)
    with Snapshot(settings, "", person).transaction() as tx:
        return Snapshot(settings, revision(tx, settings.registry), person)


def kept(
    read: Callable[Concatenate[Snapshot, _Given], _Answer],
) -> Callable[Concatenate[Snapshot, _Given], _Answer]:
    """Keep the answers of a function by snapshot and arguments."""
    # As a resource: answers are frozen, and copying a table of vectors at every click would cost more than reading it.
    keep = st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={Snapshot: lambda each: each.key})
    kept_answer: Callable[Concatenate[Snapshot, _Given], _Answer] = keep(read)
    return kept_answer


@st.cache_resource(max_entries=1, show_spinner=False)
def set_aside(revision: str) -> None:  # noqa: ARG001 (once for each)
    """Take what was read out of the full garbage collection that Streamlit makes after every run.

    With 10,000 versions each of those takes 0.3 to 0.5 s, in which nobody is answered.
    """
    _collect()
    gc.freeze()


@st.cache_resource(ttl=_COLLECTED_SECONDS, show_spinner=False)
def _collect() -> None:
    # What is set aside is freed as soon as nobody refers to it; this finds what refers to itself.
    gc.unfreeze()
    gc.collect()


@st.cache_resource(show_spinner=False, max_entries=4, on_release=Database.close)
def _database(url: str, pool_size: int, role: str | None) -> Database:
    return Database(url, pool_size=pool_size, role=role)
