"""The tree by which few models join. Pure, as `charts`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt

from deltadex.analysis.dendrogram import Dendrogram
from deltadex_dashboard.charts import layered, of
from deltadex_dashboard.colors import CALM, QUIET


def tree_chart(tree: Dendrogram, labels: Sequence[str], *, cut: float | None) -> alt.LayerChart:
    """Return the joins from left to right, with a model on each line.

    Parameters
    ----------
    labels
        Of the rows that the tree was made from.
    cut
        Mean cosine similarity at which the clusters were told apart; drawn where it is known.
    """
    corners = [
        {"join": join, "corner": corner, "place": place, "similarity": similarity, "at": f"{similarities[1]:.3f}"}
        for join, (places, similarities) in enumerate(zip(tree.places, tree.similarities, strict=True))
        for corner, (place, similarity) in enumerate(zip(places, similarities, strict=True))
    ]
    count = len(tree.leaves)
    scale = alt.Scale(reverse=True, zero=False, domainMax=1)
    x = alt.X("similarity:Q", title="mean cosine similarity", scale=scale)
    # Joins lie between the lines of models, so the axis counts lines and its labels are looked up.
    # As JSON: names are other people's, and this is an expression.
    names = json.dumps([labels[leaf] for leaf in tree.leaves])
    axis = alt.Axis(
        title=None, values=list(range(count)), labelExpr=f"{names}[datum.value]", labelLimit=320, grid=False
    )
    y = alt.Y("place:Q", scale=alt.Scale(domain=[count - 0.5, -0.5], nice=False), axis=axis)
    joins = of(corners).encode(
        x=x, y=y, detail="join:N", order="corner:Q", tooltip=alt.Tooltip("at:N", title="join at")
    )
    layers = [joins.mark_line(color=CALM, strokeWidth=1.5)]
    if cut is not None:
        limit = of([{"similarity": cut, "text": f"clusters: {cut:g}"}]).encode(x=x)
        layers += [
            limit.mark_rule(color=QUIET, strokeDash=[6, 4]),
            limit.mark_text(color=QUIET, align="left", dx=4, y=-6).encode(text="text:N"),
        ]
    return layered(*layers, height=80 + 22 * count)
