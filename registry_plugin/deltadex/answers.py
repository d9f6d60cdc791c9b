"""The questions that both the dashboard's pages and the command line ask, so that the two can't disagree.

Each reads embeddings of one recipe from the store and hands them to the pure analyses.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.analysis.clusters import Clusters, cluster
from deltadex.analysis.domains import DomainName, name_cluster
from deltadex.domain import VersionRow
from deltadex.store import embeddings
from deltadex.store.database import Transaction
from deltadex.store.embeddings import EmbeddingTable, RecipeRow


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


def domains(tx: Transaction, registry: str, recipe: RecipeRow, *, min_similarity: float) -> Domains:
    """Return the domains that the versions of one recipe fall into."""
    table = embeddings.table(tx, recipe.id, registry=registry)
    clusters = cluster(table.vectors, min_similarity=min_similarity)
    names = [
        name_cluster(label, [table.rows[row].registered for row in clusters.members(label)])
        for label in range(clusters.count)
    ]
    return Domains(recipe, table, clusters, tuple(names))
