"""The map of one recipe for a viewer: versions, coordinates and clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.access import Person
from deltadex.clusters import queries as clusters
from deltadex.clusters import reads as visible_clusters
from deltadex.clusters.queries import ClusterRow, ClusterRun
from deltadex.embeddings.queries import RecipeRow
from deltadex.findings import queries as findings
from deltadex.map import layout
from deltadex.map import queries as layouts
from deltadex.store.database import Transaction
from deltadex.types import DOMAIN_TAG, FindingKind, FloatArray, VersionRow
from deltadex.versions.queries import by_ids


@dataclass(frozen=True, eq=False)
class Chart:
    """The map of one recipe.

    Attributes
    ----------
    rows
        `n` versions.
    coordinates, strengths, labels
        `(n, 2)`, `(n,)` and `(n,)`, parallel to `rows`; a label is an index into `clusters`, -1 for none of them.
    run
        The latest clustering; None before the first.
    """

    recipe: RecipeRow
    rows: tuple[VersionRow, ...]
    coordinates: FloatArray
    strengths: FloatArray
    labels: NDArray[np.int64]
    clusters: tuple[ClusterRow, ...]
    run: ClusterRun | None

    @property
    def note(self) -> str:
        """Number, threshold and time of the clusters, or the reason why there are none."""
        if self.run is None:
            return "Not clustered yet: a worker does so within a minute."
        silhouette = "" if self.run.silhouette is None else f" · silhouette {self.run.silhouette:.2f}"
        return self.run.note or (
            f"{len(self.clusters)} clusters where the mean similarity is at least {self.run.cut:g}{silhouette}, "
            f"found {self.run.found_at:%Y-%m-%d %H:%M} UTC."
        )

    @property
    def domains(self) -> list[str | None]:
        """Declared domain of each version; None for a version that declares none."""
        return [row.registered.tags.get(DOMAIN_TAG) for row in self.rows]

    @property
    def lies_elsewhere(self) -> NDArray[np.bool_]:
        """`(n,)`: True for a version in a cluster most of whose declared domains are another one than its own."""
        declared: dict[int, Counter[str]] = {}
        for label, domain in zip(self.labels.tolist(), self.domains, strict=True):
            if label >= 0 and domain:
                declared.setdefault(label, Counter())[domain] += 1
        majority = {
            label: domain
            for label, counts in declared.items()
            for domain, count in counts.most_common(1)
            if 2 * count > counts.total()
        }
        return np.array(
            [
                bool(domain) and majority.get(label, domain) != domain
                for label, domain in zip(self.labels.tolist(), self.domains, strict=True)
            ],
            dtype=bool,
        )

    def matches(self, text: str) -> NDArray[np.bool_]:
        """Return `(n,)`: True for a version whose label, aliases or own tags contain a text, whatever its case."""
        wanted = text.casefold().strip()
        return np.array([wanted in _searched(row) for row in self.rows], dtype=bool)

    def members(self, label: int) -> list[VersionRow]:
        """Return the versions of one cluster."""
        return [self.rows[row] for row in np.flatnonzero(self.labels == label)]


def _searched(row: VersionRow) -> str:
    # A line break is in no tag that a person would look for, so that no match spans two values.
    return "\n".join((row.label, *row.registered.aliases, *row.registered.own_tags.values())).casefold()


def chart(
    tx: Transaction,
    viewer: Person,
    registry: str,
    recipe: RecipeRow,
    *,
    known: Mapping[int, VersionRow] | None = None,
) -> Chart:
    """Return the map of one recipe, from the stored layout and clusters as far as they exist.

    Parameters
    ----------
    known
        Rows that the caller has read already, by id; only these are on the map. None reads all rows.
    """
    stored = layouts.read(tx, recipe.id, registry)
    coordinates = layout.places(tx, registry, recipe, stored)
    run = clusters.latest_run(tx, recipe.id, registry)
    # Use the clusters that the labels refer to; a run that ends between the two reads may replace them.
    visible = {one.id: one for one in visible_clusters.listing(tx, viewer, recipe.id, registry)}
    rows = by_ids(tx, stored.ids.tolist()) if known is None else known
    # A version may have been deleted between the two reads.
    there = np.array([version_id in rows for version_id in stored.ids.tolist()], dtype=bool)
    return Chart(
        recipe,
        tuple(viewer.view_each(rows[each] for each in stored.ids[there].tolist())),
        coordinates[there],
        stored.strengths[there],
        stored.labels[there],
        tuple(visible.get(one.id) or visible_clusters.nameless(one) for one in stored.clusters),
        run,
    )


def too_weak(tx: Transaction, viewer: Person, registry: str) -> list[VersionRow]:
    """Return the versions that are too weak to place."""
    found = findings.listing(tx, registry, kinds=[FindingKind.TOO_WEAK])
    return viewer.view_each(one.version for one in found)
