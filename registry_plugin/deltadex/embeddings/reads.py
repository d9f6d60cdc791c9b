"""Embeddings for a viewer."""

from __future__ import annotations

from dataclasses import replace

from deltadex.access import Person
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow, StoredEmbedding
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions.reads import sees_versions


def recipes(tx: Transaction, viewer: Person, registry: str, *, name: str | None = None) -> list[RecipeRow]:
    """Return the recipes of a registry or of one registered model, as the query does; hidden bases have no name."""
    return [_shown(viewer, one) for one in embeddings.recipes(tx, registry, name=name)]


def of_version(tx: Transaction, viewer: Person, version_id: int) -> list[StoredEmbedding]:
    """Return a version's embeddings, the latest first; empty if the version is hidden. Hidden bases have no name."""
    stored = embeddings.of_version(tx, version_id) if sees_versions(tx, viewer, version_id) else []
    return [replace(one, recipe=_shown(viewer, one.recipe)) for one in stored]


def same_weights(tx: Transaction, viewer: Person, version_id: int) -> list[VersionRow]:
    """Return the other versions of the same registry with equal tensors, oldest first."""
    return viewer.view_each(embeddings.same_weights(tx, version_id)) if sees_versions(tx, viewer, version_id) else []


def _shown(viewer: Person, recipe: RecipeRow) -> RecipeRow:
    return replace(recipe, base_name=viewer.shown_address(recipe.base_name))
