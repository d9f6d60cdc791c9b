"""Reads of the map and of its place's other pages, cached until the data change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltadex.clusters.dendrogram import Dendrogram, joins
from deltadex_dashboard.charts.map import hover_cards
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, cached


@cached
def cards(now: Snapshot, recipe_id: int) -> list[str]:
    """Return the hover card of each version on the map of one recipe."""
    chart = reads.chart(now, recipe_id)
    names = view.cluster_names(chart)
    return hover_cards(
        [
            (
                ("domain", domain),
                ("cluster", names[label] if label >= 0 else "none"),
                ("owner", row.registered.owner),
                ("aliases", " ".join(f"@{alias}" for alias in row.registered.aliases)),
                ("registered", f"{row.registered_at:%Y-%m-%d}"),
            )
            for row, domain, label in zip(chart.rows, chart.domains, chart.labels.tolist(), strict=True)
        ]
    )


@cached
def tree(now: Snapshot, recipe_id: int, ids: tuple[int, ...]) -> tuple[Dendrogram, list[str], NDArray[np.float64]]:
    """Return the dendrogram of versions under one recipe, their labels, and their `(n, n)` cosine similarities."""
    with now.transaction() as tx:
        return joins(tx, now.person, recipe_id, now.settings.registry, ids=ids)
