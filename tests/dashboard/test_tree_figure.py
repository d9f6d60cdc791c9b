"""The tree of few models as a figure."""

from __future__ import annotations

import numpy as np

from deltadex.analysis.dendrogram import dendrogram
from deltadex_dashboard.tree_figure import tree_figure


def test_each_model_has_a_line_beside_those_that_it_joins_first() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [1, 0.1, 0], [0, 1, 0.1]])
    figure = tree_figure(dendrogram(vectors), ["sql/1", "legal/1", "sql/2", "legal/2"], cut=0.5)
    shown = list(figure.layout.yaxis.ticktext)
    assert {frozenset(shown[:2]), frozenset(shown[2:])} == {
        frozenset(("sql/1", "sql/2")),
        frozenset(("legal/1", "legal/2")),
    }
    assert len(figure.data) == 3
    assert figure.layout.shapes[0].x0 == 0.5
