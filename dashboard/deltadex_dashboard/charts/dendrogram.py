"""Dendrogram of a small number of models. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt

from deltadex.clusters.dendrogram import Dendrogram
from deltadex_dashboard.charts.colors import CALM, QUIET
from deltadex_dashboard.charts.overview import chart_of, layered


def tree_chart(tree: Dendrogram, labels: Sequence[str], *, cut: float | None) -> alt.LayerChart:
    """Return a dendrogram with its joins from left to right, and one line per model.

    Parameters
    ----------
    labels
        Labels of the tree's rows.
    cut
        Mean cosine similarity that separates the clusters; None draws no line.
    """
    corners = [
        {"join": join, "corner": corner, "place": place, "similarity": similarity, "at": f"{similarities[1]:.3f}"}
        for join, (places, similarities) in enumerate(zip(tree.places, tree.similarities, strict=True))
        for corner, (place, similarity) in enumerate(zip(places, similarities, strict=True))
    ]
    count = len(tree.leaves)
    scale = alt.Scale(reverse=True, zero=False, domainMax=1)
    x = alt.X("similarity:Q", title="mean cosine similarity", scale=scale)
    # Joins lie between the lines of models, so the axis is numeric and an expression looks up its labels.
    # The names are untrusted text, so they are inserted into the expression as JSON.
    names = json.dumps([labels[leaf] for leaf in tree.leaves])
    axis = alt.Axis(
        title=None, values=list(range(count)), labelExpr=f"{names}[datum.value]", labelLimit=320, grid=False
    )
    y = alt.Y("place:Q", scale=alt.Scale(domain=[count - 0.5, -0.5], nice=False), axis=axis)
    joins = chart_of(corners).encode(
        x=x, y=y, detail="join:N", order="corner:Q", tooltip=alt.Tooltip("at:N", title="join at")
    )
    layers = [joins.mark_line(color=CALM, strokeWidth=1.5)]
    if cut is not None:
        limit = chart_of([{"similarity": cut, "text": f"clusters: {cut:g}"}]).encode(x=x)
        layers += [
            limit.mark_rule(color=QUIET, strokeDash=[6, 4]),
            limit.mark_text(color=QUIET, align="left", dx=4, y=-6).encode(text="text:N"),
        ]
    return layered(*layers, height=80 + 22 * count)
