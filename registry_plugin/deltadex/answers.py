"""The questions that both the dashboard's pages and the command line ask, so that the two can't disagree.

Each reads embeddings of one recipe from the store and hands them to the pure analyses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.analysis.clusters import ALONE, Clusters, cluster
from deltadex.analysis.domains import DomainName, name_clusters
from deltadex.analysis.drift import DriftStep, drift
from deltadex.analysis.duplicates import connected_groups, near_duplicate_pairs
from deltadex.analysis.similarity import cosine_similarity
from deltadex.domain import VersionRow, Words
from deltadex.store import embeddings, words
from deltadex.store.database import Transaction
from deltadex.store.embeddings import EmbeddingTable, RecipeRow


@dataclass(frozen=True)
class DuplicateGroup:
    """Versions that are redundant with each other.

    Attributes
    ----------
    versions
        Two or more, by id.
    is_exact
        All have the same weights; else they are connected by pairs of at least the threshold's similarity.
    lowest_similarity
        Cosine similarity of the two members that are furthest apart; below the threshold where a chain connects them.
    """

    recipe: RecipeRow
    versions: tuple[VersionRow, ...]
    is_exact: bool
    lowest_similarity: float


@dataclass(frozen=True)
class ModelDrift:
    """How one registered model moved under one recipe, oldest version first; `steps[i]` leads to `versions[i + 1]`."""

    name: str
    recipe: RecipeRow
    versions: tuple[VersionRow, ...]
    steps: tuple[DriftStep, ...]

    @property
    def largest_step(self) -> float:
        """The largest cosine distance between consecutive versions."""
        return max(step.distance for step in self.steps)


@dataclass(frozen=True, eq=False)
class Domains:
    """The clusters of one recipe; `clusters.labels` and `table.rows` are parallel, `names[label]` names a cluster."""

    recipe: RecipeRow
    table: EmbeddingTable
    clusters: Clusters
    names: tuple[DomainName, ...]

    def members(self, label: int) -> list[VersionRow]:
        """Return the versions of one cluster."""
        return [self.table.rows[row] for row in self.clusters.members(label)]


@dataclass(frozen=True)
class VersionWords:
    """What a version's embedding under one recipe says.

    Attributes
    ----------
    words
        None where nobody asked: it was embedded with words switched off, or by an earlier Deltadex.
    is_weak
        The embedding is too weak to place, and its words are hardly more than noise.
    """

    recipe: RecipeRow
    words: Words | None
    is_weak: bool


def version_words(tx: Transaction, version_id: int) -> list[VersionWords]:
    """Return what a version says under each recipe, the latest first; nothing before it is embedded."""
    return [
        VersionWords(
            stored.recipe, words.of_versions(tx, stored.recipe.id, [version_id]).get(version_id), stored.is_weak
        )
        for stored in embeddings.of_version(tx, version_id)
    ]


def duplicate_groups(tx: Transaction, registry: str, *, min_similarity: float) -> list[DuplicateGroup]:
    """Return all groups of redundant versions, exact ones first, then the largest."""
    found = [
        group
        for recipe in embeddings.recipes(tx, registry)
        for group in _groups(recipe, embeddings.table(tx, recipe.id, registry=registry), min_similarity)
    ]
    return sorted(found, key=lambda group: (not group.is_exact, -len(group.versions), group.versions[0].id))


def model_drifts(tx: Transaction, registry: str, *, name: str | None = None) -> list[ModelDrift]:
    """Return the drift of each registered model with two or more comparable versions, the largest step first."""
    found: list[ModelDrift] = []
    for recipe in embeddings.recipes(tx, registry):
        table = embeddings.table(tx, recipe.id, registry=registry)
        positions: dict[str, list[int]] = defaultdict(list)
        for position, row in enumerate(table.rows):
            positions[row.registered.ref.name].append(position)
        for model in positions if name is None else positions.keys() & {name}:
            order = sorted(positions[model], key=lambda position: table.rows[position].registered.ref.version)
            if len(order) > 1:
                rows = tuple(table.rows[position] for position in order)
                found.append(ModelDrift(model, recipe, rows, tuple(drift(table.vectors[order]))))
    return sorted(found, key=lambda drifted: (-drifted.largest_step, drifted.name))


def domains(tx: Transaction, registry: str, recipe: RecipeRow, *, min_similarity: float) -> Domains:
    """Return the domains that the versions of one recipe fall into."""
    table = embeddings.table(tx, recipe.id, registry=registry)
    clusters = cluster(table.vectors, min_similarity=min_similarity)
    said = words.of_versions(tx, recipe.id, [row.id for row in table.rows])
    names = name_clusters(
        [[table.rows[row].registered for row in clusters.members(label)] for label in range(clusters.count)],
        rest=[table.rows[row].registered for row in clusters.members(ALONE)],
        words={row.registered.ref: said[row.id] for row in table.rows if row.id in said},
    )
    return Domains(recipe, table, clusters, tuple(names))


def _groups(recipe: RecipeRow, table: EmbeddingTable, min_similarity: float) -> Sequence[DuplicateGroup]:
    exact = _same_weights(table)
    near = [(pair.first, pair.second) for pair in near_duplicate_pairs(table.vectors, min_similarity)]
    found = [_group(recipe, table, group, is_exact=True) for group in connected_groups(exact)]
    # A group that an exact one explains whole is not shown again; one that goes beyond it is.
    explained = {frozenset(group) for group in connected_groups(exact)}
    found += [
        _group(recipe, table, group, is_exact=False)
        for group in connected_groups([*near, *exact])
        if frozenset(group) not in explained
    ]
    return found


def _same_weights(table: EmbeddingTable) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [
        (first[row.weights_digest], position)
        for position, row in enumerate(table.rows)
        if row.weights_digest and first.setdefault(row.weights_digest, position) != position
    ]


def _group(recipe: RecipeRow, table: EmbeddingTable, positions: Sequence[int], *, is_exact: bool) -> DuplicateGroup:
    lowest = float(np.min(cosine_similarity(table.vectors[list(positions)])))
    return DuplicateGroup(recipe, tuple(table.rows[position] for position in positions), is_exact, lowest)
