"""The tree by which few models join. Pure: values in, figure out, no Streamlit."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from deltadex.analysis.dendrogram import Dendrogram

_LINE = "#4c78dd"


def tree_figure(tree: Dendrogram, labels: Sequence[str], *, cut: float | None) -> go.Figure:
    """Return the joins from left to right, with a model on each line.

    Parameters
    ----------
    labels
        Of the rows that the tree was made from.
    cut
        Mean cosine similarity at which the clusters were told apart; drawn where it is known.
    """
    figure = go.Figure(
        [
            go.Scatter(
                x=similarities, y=places, mode="lines", line={"color": _LINE, "width": 1.5}, showlegend=False,
                hovertemplate=f"join at {similarities[1]:.3f}<extra></extra>",
            )
            for places, similarities in zip(tree.places, tree.similarities, strict=True)
        ]
    )  # fmt: skip
    if cut is not None:
        figure.add_vline(cut, line={"dash": "dash", "color": "#8a93a6"}, annotation_text=f"clusters: {cut:g}")
    figure.update_layout(height=80 + 22 * len(tree.leaves), margin={"l": 8, "r": 8, "t": 24, "b": 8})
    figure.update_xaxes(title="mean cosine similarity", autorange="reversed")
    figure.update_yaxes(
        tickvals=list(range(len(tree.leaves))), ticktext=[labels[leaf] for leaf in tree.leaves], automargin=True
    )
    return figure
