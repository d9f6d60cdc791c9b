"""All that the dashboard reads, kept for as long as the data stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from deltadex import answers, layout, reviews
from deltadex.analysis.clusters import ALONE
from deltadex.analysis.domains import DomainName
from deltadex.analysis.similarity import cosine_similarity
from deltadex.answers import DuplicateGroup, ModelDrift
from deltadex.domain import FindingKind, FloatArray, State, VersionRow
from deltadex.governance.access import HIDDEN, Person
from deltadex.settings import Settings, load_settings
from deltadex.store import embeddings, findings, layouts, search, versions, watchers
from deltadex.store.database import Database, Transaction
from deltadex.store.embeddings import RecipeRow, StoredEmbedding
from deltadex.store.layouts import Layout
from deltadex.store.reviews import Chain, LogEntry, ReviewRow
from deltadex.store.revision import revision
from deltadex.store.search import Neighbor
from deltadex.store.versions import StateChange
from deltadex.store.watchers import WatcherRow
from deltadex_dashboard import visitor

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Snapshot:
    """What is read: one registry in one store, at one revision of its data, as one person may see it."""

    settings: Settings
    revision: str
    person: Person

    @property
    def key(self) -> tuple[str, ...]:
        """What answers are kept under: people who may see the same share them."""
        return self.settings.reader_url, self.settings.registry, self.revision, *self.person.models

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Read from the store."""
        with _database(self.settings.reader_url, self.settings.database.pool_size).transaction() as tx:
            yield tx

    def seen(self, rows: Iterable[VersionRow]) -> list[VersionRow]:
        """Return rows without what the person may not see: masked, and not silently missing."""
        return [self.person.view(row) for row in rows]


@dataclass(frozen=True)
class VersionFacts:
    """Everything about one model version, besides its row."""

    embeddings: tuple[StoredEmbedding, ...]
    neighbors: tuple[Neighbor, ...]
    same_weights: tuple[VersionRow, ...]
    reviews: tuple[ReviewRow, ...]
    history: tuple[StateChange, ...]


@dataclass(frozen=True, eq=False)
class Chart:
    """The map of one recipe.

    Attributes
    ----------
    rows
        `n` versions.
    coordinates, strengths, labels
        `(n, 2)` and twice `(n,)`, parallel to `rows`; a label is a position in `names`, -1 for none of them.
    note
        What the clusters rest on.
    """

    recipe: RecipeRow
    rows: tuple[VersionRow, ...]
    coordinates: FloatArray
    strengths: FloatArray
    labels: NDArray[np.int64]
    names: tuple[DomainName, ...]
    note: str

    def members(self, label: int) -> list[VersionRow]:
        """Return the versions of one cluster."""
        return [self.rows[row] for row in np.flatnonzero(self.labels == label)]


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
        return now.seen(versions.listing(tx, now.settings.registry, states=set(State) - {State.DELETED}))


@_kept
def all_reviews(now: Snapshot) -> list[ReviewRow]:
    """Return every finding with what people made of it, the most severe first and then the earliest due."""
    with now.transaction() as tx:
        return reviews.listing(tx, now.person, now.settings)


@_kept
def history(now: Snapshot, review_id: int) -> list[LogEntry]:
    """Return what was done about one finding, oldest first."""
    with now.transaction() as tx:
        return reviews.history(tx, now.person, review_id)


@_kept
def log(now: Snapshot, limit: int) -> list[LogEntry]:
    """Return what was done about all findings, newest first."""
    with now.transaction() as tx:
        return reviews.log(tx, now.person, now.settings, limit=limit)


@_kept
def chain(now: Snapshot) -> Chain:
    """Compute the log's hashes anew."""
    with now.transaction() as tx:
        return reviews.verify(tx, now.person)


@_kept
def weak(now: Snapshot) -> list[VersionRow]:
    """Return the versions that are too weak to place."""
    with now.transaction() as tx:
        found = findings.listing(tx, now.settings.registry, kinds=[FindingKind.TOO_WEAK])
    return now.seen(one.version for one in found)


@_kept
def recipes(now: Snapshot) -> list[RecipeRow]:
    """Return the comparable spaces, the largest first."""
    with now.transaction() as tx:
        return embeddings.recipes(tx, now.settings.registry)


@_kept
def model(now: Snapshot, name: str) -> list[VersionRow]:
    """Return the versions of one registered model that the person may see, newest first, deleted ones last."""
    if not now.person.sees(name):
        return []
    with now.transaction() as tx:
        return versions.find(tx, now.settings.registry, name)


@_kept
def version(now: Snapshot, version_id: int) -> VersionFacts:
    """Return everything about one version."""
    with now.transaction() as tx:
        return VersionFacts(
            embeddings=tuple(embeddings.of_version(tx, version_id)),
            neighbors=tuple(
                replace(one, version=now.person.view(one.version)) for one in search.neighbors(tx, version_id).neighbors
            ),
            same_weights=tuple(now.seen(embeddings.same_weights(tx, version_id))),
            reviews=tuple(reviews.listing(tx, now.person, now.settings, version_id=version_id)),
            history=tuple(versions.history(tx, version_id)),
        )


@_kept
def chart(now: Snapshot, recipe_id: int) -> Chart:
    """Return the map of one recipe: laid out and clustered ahead of time, where that was done already."""
    recipe = next(recipe for recipe in recipes(now) if recipe.id == recipe_id)
    known = {row.id: row for row in all_versions(now)}
    with now.transaction() as tx:
        stored = layouts.read(tx, recipe_id, now.settings.registry)
        coordinates = layout.places(tx, now.settings.registry, recipe, stored)
    # A version may have left between the two reads.
    there = np.array([version_id in known for version_id in stored.ids.tolist()], dtype=bool)
    ids = stored.ids[there].tolist()
    names, labels, note = _clusters(now, recipe, stored)
    return Chart(
        recipe,
        tuple(known[one] for one in ids),
        coordinates[there],
        stored.strengths[there],
        labels[there],
        names,
        note,
    )


def _clusters(
    now: Snapshot, recipe: RecipeRow, stored: Layout
) -> tuple[tuple[DomainName, ...], NDArray[np.int64], str]:
    if stored.clusters:
        names = tuple(DomainName(name, "the stored clustering") for name in stored.clusters)
        return names, stored.labels, f"{len(names)} clusters."
    limit = now.settings.thresholds.cluster_similarity
    with now.transaction() as tx:
        found = answers.domains(tx, now.settings.registry, recipe, min_similarity=limit)
    label_of = {row.id: int(label) for row, label in zip(found.table.rows, found.clusters.labels, strict=True)}
    labels = np.array([label_of.get(one, ALONE) for one in stored.ids.tolist()], dtype=np.int64)
    silhouette = found.clusters.silhouette
    note = found.clusters.note or (
        f"{found.clusters.count} clusters where the mean similarity is at least {limit:g}"
        + ("." if silhouette is None else f" · silhouette {silhouette:.2f}.")
    )
    return found.names, labels, note


@_kept
def duplicates(now: Snapshot, min_similarity: float) -> list[DuplicateGroup]:
    """Return the groups of redundant versions at one threshold; at the setting's own they are found already."""
    with now.transaction() as tx:
        if min_similarity == now.settings.thresholds.near_duplicate_similarity:
            groups = answers.found_duplicates(tx, now.settings.registry)
        else:
            groups = answers.duplicate_groups(tx, now.settings.registry, min_similarity=min_similarity)
    return [replace(group, versions=tuple(now.seen(group.versions))) for group in groups]


@_kept
def similarities(now: Snapshot, recipe_id: int, ids: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the `(n, n)` cosine similarities between these versions."""
    with now.transaction() as tx:
        table = embeddings.table(tx, recipe_id, registry=now.settings.registry, ids=ids)
    position = {row.id: place for place, row in enumerate(table.rows)}
    return cosine_similarity(table.vectors[[position[version_id] for version_id in ids]])


@_kept
def drifts(now: Snapshot, name: str | None = None) -> list[ModelDrift]:
    """Return how registered models moved, the largest step first."""
    with now.transaction() as tx:
        drifts = answers.model_drifts(tx, now.settings.registry, name=name)
    return [
        one if now.person.sees(one.name) else replace(one, name=HIDDEN, versions=tuple(now.seen(one.versions)))
        for one in drifts
    ]


@st.cache_resource(show_spinner=False, max_entries=4, on_release=Database.close)
def _database(url: str, pool_size: int) -> Database:
    return Database(url, pool_size=pool_size)
