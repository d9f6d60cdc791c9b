"""All that the dashboard reads, kept for as long as the data stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from deltadex import answers
from deltadex.analysis.projection import project
from deltadex.analysis.similarity import cosine_similarity
from deltadex.answers import Domains, DuplicateGroup, ModelDrift, VersionWords
from deltadex.domain import State, VersionRow
from deltadex.settings import Settings, load_settings
from deltadex.store import embeddings, findings, search, versions, watchers
from deltadex.store.database import Database, Transaction
from deltadex.store.embeddings import RecipeRow, StoredEmbedding
from deltadex.store.findings import FindingRow
from deltadex.store.revision import revision
from deltadex.store.search import Neighbor
from deltadex.store.versions import StateChange
from deltadex.store.watchers import WatcherRow

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Snapshot:
    """What is read: one registry in one store, at one revision of its data."""

    settings: Settings
    revision: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What answers are kept under."""
        return self.settings.database_url, self.settings.registry, self.revision

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Read from the store."""
        with _database(self.settings.database_url, self.settings.database.pool_size).transaction() as tx:
            yield tx


@dataclass(frozen=True)
class VersionFacts:
    """Everything about one model version, besides its row."""

    embeddings: tuple[StoredEmbedding, ...]
    neighbors: tuple[Neighbor, ...]
    same_weights: tuple[VersionRow, ...]
    findings: tuple[FindingRow, ...]
    history: tuple[StateChange, ...]
    words: tuple[VersionWords, ...]


@dataclass(frozen=True, eq=False)
class Chart:
    """The map of one recipe: `coordinates` `(n, 2)` are parallel to `domains.table.rows`."""

    domains: Domains
    coordinates: NDArray[np.float64]


def snapshot() -> Snapshot:
    """Look at the store as it is now.

    Raises
    ------
    SettingsError
        No database is known.
    StoreError
        Postgres is away, or its tables are missing.
    """
    settings = load_settings()
    with Snapshot(settings, revision="").transaction() as tx:
        return Snapshot(settings, revision(tx, settings.registry))


def _kept(
    read: Callable[Concatenate[Snapshot, _Given], _Answer],
) -> Callable[Concatenate[Snapshot, _Given], _Answer]:
    # As a resource: answers are frozen, and copying a table of vectors at every click would cost more than reading it.
    keep = st.cache_resource(max_entries=16, show_spinner=False, hash_funcs={Snapshot: lambda each: each.key})
    kept: Callable[Concatenate[Snapshot, _Given], _Answer] = keep(read)
    return kept


def watcher(now: Snapshot) -> WatcherRow:
    """Return how the watcher is doing; its times are no change of the data, so this is always read."""
    with now.transaction() as tx:
        return watchers.read(tx, now.settings.registry)


@_kept
def all_versions(now: Snapshot) -> list[VersionRow]:
    """Return every version that is in the registry, by name and then newest first."""
    with now.transaction() as tx:
        return versions.listing(tx, now.settings.registry, states=set(State) - {State.DELETED})


@_kept
def all_findings(now: Snapshot) -> list[FindingRow]:
    """Return every finding, newest first."""
    with now.transaction() as tx:
        return findings.listing(tx, now.settings.registry)


@_kept
def recipes(now: Snapshot) -> list[RecipeRow]:
    """Return the comparable spaces, the largest first."""
    with now.transaction() as tx:
        return embeddings.recipes(tx, now.settings.registry)


@_kept
def model(now: Snapshot, name: str) -> list[VersionRow]:
    """Return the versions of one registered model, newest first, deleted ones last."""
    with now.transaction() as tx:
        return versions.find(tx, now.settings.registry, name)


@_kept
def version(now: Snapshot, version_id: int) -> VersionFacts:
    """Return everything about one version."""
    with now.transaction() as tx:
        return VersionFacts(
            embeddings=tuple(embeddings.of_version(tx, version_id)),
            neighbors=search.neighbors(tx, version_id).neighbors,
            same_weights=tuple(embeddings.same_weights(tx, version_id)),
            findings=tuple(findings.listing(tx, now.settings.registry, version_id=version_id)),
            history=tuple(versions.history(tx, version_id)),
            words=tuple(answers.version_words(tx, version_id)),
        )


@_kept
def chart(now: Snapshot, recipe_id: int) -> Chart:
    """Return the map of one recipe."""
    recipe = next(recipe for recipe in recipes(now) if recipe.id == recipe_id)
    limit = now.settings.thresholds.cluster_similarity
    with now.transaction() as tx:
        domains = answers.domains(tx, now.settings.registry, recipe, min_similarity=limit)
    return Chart(domains, project(domains.table.vectors))


@_kept
def duplicates(now: Snapshot, min_similarity: float) -> list[DuplicateGroup]:
    """Return the groups of redundant versions at one threshold."""
    with now.transaction() as tx:
        return answers.duplicate_groups(tx, now.settings.registry, min_similarity=min_similarity)


@_kept
def similarities(now: Snapshot, recipe_id: int, ids: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the `(n, n)` cosine similarities between these versions."""
    with now.transaction() as tx:
        table = embeddings.table(tx, recipe_id, registry=now.settings.registry)
    position = {row.id: place for place, row in enumerate(table.rows)}
    return cosine_similarity(table.vectors[[position[version_id] for version_id in ids]])


@_kept
def drifts(now: Snapshot, name: str | None = None) -> list[ModelDrift]:
    """Return how registered models moved, the largest step first."""
    with now.transaction() as tx:
        return answers.model_drifts(tx, now.settings.registry, name=name)


@st.cache_resource(show_spinner=False, max_entries=4, on_release=Database.close)
def _database(url: str, pool_size: int) -> Database:
    return Database(url, pool_size=pool_size)
