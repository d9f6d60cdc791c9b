"""Dendrogram of a small number of models, and their similarities in its order. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt
import numpy as np
from numpy.typing import NDArray

from deltadex.clusters.dendrogram import Dendrogram
from deltadex_dashboard.charts.colors import CALM, FAINT, QUIET
from deltadex_dashboard.charts.overview import chart_of, layered, number_tooltip


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
    # Joins lie between the lines of models, so the axis is numeric.
    axis = _labelled_axis([labels[leaf] for leaf in tree.leaves])
    y = alt.Y("place:Q", scale=alt.Scale(domain=[count - 0.5, -0.5], nice=False), axis=axis)
    joins = chart_of(corners).encode(
        x=x, y=y, detail="join:N", order="corner:Q", tooltip=alt.Tooltip("at:N", title="join at")
    )
    layers = [joins.mark_line(color=CALM, strokeWidth=1.5)]
    if cut is not None:
        limit = chart_of([{"similarity": cut}]).encode(x=x)
        layers.append(limit.mark_rule(color=QUIET, strokeDash=[6, 4]))
    return layered(*layers, height=80 + 22 * count)


def matrix_chart(tree: Dendrogram, labels: Sequence[str], similarity: NDArray[np.float64]) -> alt.Chart:
    """Return a heat map of the `(n, n)` cosine similarities of models, in the order of their dendrogram."""
    names, ordered = [labels[leaf] for leaf in tree.leaves], similarity[np.ix_(tree.leaves, tree.leaves)]
    cells = [
        {"row": row, "column": column, "one": names[row], "other": names[column], "similarity": float(value)}
        for (row, column), value in np.ndenumerate(ordered)
    ]
    scale = alt.Scale(domain=[min(0.0, float(similarity.min(initial=0))), 1], range=[FAINT, CALM])
    encoded = chart_of(cells).encode(
        x=alt.X("column:O", axis=None),
        y=alt.Y("row:O", axis=_labelled_axis(names)),
        color=alt.Color("similarity:Q", scale=scale, title="cosine similarity", legend=alt.Legend(orient="top")),
        tooltip=["one:N", "other:N", number_tooltip("similarity")],
    )
    drawn: alt.Chart = encoded.mark_rect().properties(height=80 + 18 * len(names))
    return drawn


def _labelled_axis(names: Sequence[str]) -> alt.Axis:
    """Return a vertical axis of numbers that shows names. Names are untrusted, and may be equal: masked ones are."""
    expression = f"{json.dumps(list(names))}[datum.value]"
    return alt.Axis(
        title=None, values=list(range(len(names))), labelExpr=expression, labelLimit=320, labelOverlap=False, grid=False
    )
