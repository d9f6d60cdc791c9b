"""The dendrogram chart, checked by its specification."""

from __future__ import annotations

import json

import numpy as np

from deltadex.clusters.dendrogram import dendrogram
from deltadex.vectors import cosine_similarity
from deltadex_dashboard.charts.dendrogram import matrix_chart, tree_chart
from tests.dashboard.specs import layers


def test_each_model_has_a_line_beside_those_that_it_joins_first() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [1, 0.1, 0], [0, 1, 0.1]])
    joins, cut = layers(tree_chart(dendrogram(vectors), ["sql/1", "legal/1", "sql/2", "legal/2"], cut=0.5))
    shown = json.loads(joins["encoding"]["y"]["axis"]["labelExpr"].removesuffix("[datum.value]"))
    assert {frozenset(shown[:2]), frozenset(shown[2:])} == {
        frozenset(("sql/1", "sql/2")),
        frozenset(("legal/1", "legal/2")),
    }
    assert {corner["join"] for corner in joins["rows"]} == {0, 1, 2}
    assert cut["rows"][0]["similarity"] == 0.5


def test_a_model_may_be_named_like_an_expression() -> None:
    name = """'] + "${alert(1)}" + ['"""
    joins = layers(tree_chart(dendrogram(np.eye(2)), [name, "b/1"], cut=None))[0]
    assert json.dumps(name) in joins["encoding"]["y"]["axis"]["labelExpr"]


def test_the_similarities_stand_in_the_order_of_the_dendrogram() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [1, 0.1, 0], [0, 1, 0.1]])
    tree, labels = dendrogram(vectors), ["sql/1", "legal/1", "sql/2", "legal/2"]
    drawn = matrix_chart(tree, labels, cosine_similarity(vectors)).to_dict()
    [rows], names = drawn["datasets"].values(), [labels[leaf] for leaf in tree.leaves]
    assert drawn["encoding"]["y"]["axis"]["labelExpr"] == f"{json.dumps(names)}[datum.value]"
    cells = {(cell["row"], cell["column"]): cell["similarity"] for cell in rows}
    assert len(cells) == 16
    assert cells[0, 1] > 0.99
    assert cells[1, 2] < 0.2
