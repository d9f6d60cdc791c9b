"""Embeddings for a viewer."""

from __future__ import annotations

from deltadex.access import Person
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import StoredEmbedding
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions.reads import sees_versions


def of_version(tx: Transaction, viewer: Person, version_id: int) -> list[StoredEmbedding]:
    """Return a version's embeddings, the latest first; empty if the version is hidden."""
    return embeddings.of_version(tx, version_id) if sees_versions(tx, viewer, version_id) else []


def same_weights(tx: Transaction, viewer: Person, version_id: int) -> list[VersionRow]:
    """Return the other versions of the same registry with equal tensors, oldest first."""
    return viewer.view_each(embeddings.same_weights(tx, version_id)) if sees_versions(tx, viewer, version_id) else []
