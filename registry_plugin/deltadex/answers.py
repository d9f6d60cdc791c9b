"""The questions that both the dashboard's pages and the command line ask, so that the two can't disagree.

Each reads embeddings of one recipe from the store and hands them to the pure analyses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.analysis.drift import DriftStep, drift
from deltadex.analysis.duplicates import connected_groups, near_duplicate_pairs
from deltadex.analysis.similarity import cosine_similarity
from deltadex.domain import FindingKind, VersionRow
from deltadex.store import embeddings, findings
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


def duplicate_groups(tx: Transaction, registry: str, *, min_similarity: float) -> list[DuplicateGroup]:
    """Return all groups of redundant versions, exact ones first, then the largest."""
    found = [
        group
        for recipe in embeddings.recipes(tx, registry)
        for group in _groups(recipe, embeddings.table(tx, recipe.id, registry=registry), min_similarity)
    ]
    return _ranked(found)


def found_duplicates(tx: Transaction, registry: str) -> list[DuplicateGroup]:
    """Return the groups that the stored findings make: those of `duplicate_groups` at the settings' threshold.

    Reads the vectors of their members only.
    """
    kinds = (FindingKind.EXACT_DUPLICATE, FindingKind.NEAR_DUPLICATE)
    pairs = [one for one in findings.listing(tx, registry, kinds=kinds) if one.other is not None]
    ids = sorted({row.id for one in pairs for row in (one.version, one.other) if row is not None})
    found: list[DuplicateGroup] = []
    for recipe in embeddings.recipes(tx, registry) if ids else ():
        table = embeddings.table(tx, recipe.id, registry=registry, ids=ids)
        position = {row.id: place for place, row in enumerate(table.rows)}
        near = [
            (position[one.finding.other_id], position[one.finding.version_id])
            for one in pairs
            if one.finding.kind is FindingKind.NEAR_DUPLICATE
            and one.finding.version_id in position
            and one.finding.other_id in position
        ]
        found += _groups_of(recipe, table, near)
    return _ranked(found)


def model_drifts(tx: Transaction, registry: str, *, name: str | None = None) -> list[ModelDrift]:
    """Return the drift of each registered model with two or more comparable versions, the largest step first."""
    found: list[ModelDrift] = []
    for recipe in embeddings.recipes(tx, registry):
        table = embeddings.table(tx, recipe.id, registry=registry, name=name)
        positions: dict[str, list[int]] = defaultdict(list)
        for position, row in enumerate(table.rows):
            positions[row.registered.ref.name].append(position)
        for model in positions:
            order = sorted(positions[model], key=lambda position: table.rows[position].registered.ref.version)
            if len(order) > 1:
                rows = tuple(table.rows[position] for position in order)
                found.append(ModelDrift(model, recipe, rows, tuple(drift(table.vectors[order]))))
    return sorted(found, key=lambda drifted: (-drifted.largest_step, drifted.name))


def _ranked(groups: Sequence[DuplicateGroup]) -> list[DuplicateGroup]:
    return sorted(groups, key=lambda group: (not group.is_exact, -len(group.versions), group.versions[0].id))


def _groups(recipe: RecipeRow, table: EmbeddingTable, min_similarity: float) -> Sequence[DuplicateGroup]:
    near = [(pair.first, pair.second) for pair in near_duplicate_pairs(table.vectors, min_similarity)]
    return _groups_of(recipe, table, near)


def _groups_of(recipe: RecipeRow, table: EmbeddingTable, near: Sequence[tuple[int, int]]) -> Sequence[DuplicateGroup]:
    exact = _same_weights(table)
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
