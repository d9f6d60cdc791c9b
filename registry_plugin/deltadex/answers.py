"""The questions that both the dashboard's pages and the command line ask, so that the two can't disagree.

Each reads embeddings of one recipe from the store and hands them to the pure analyses.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from deltadex.analysis.clusters import Clusters, cluster
from deltadex.analysis.domains import DomainName, name_cluster
from deltadex.analysis.drift import DriftStep, drift
from deltadex.domain import VersionRow
from deltadex.store import embeddings
from deltadex.store.database import Transaction
from deltadex.store.embeddings import EmbeddingTable, RecipeRow


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
    names = [
        name_cluster(label, [table.rows[row].registered for row in clusters.members(label)])
        for label in range(clusters.count)
    ]
    return Domains(recipe, table, clusters, tuple(names))
