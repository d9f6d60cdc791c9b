"""The lineage graph in the DOT language."""

from __future__ import annotations

from deltadex.access import masked
from deltadex.lineage.graph import Edge, Relation
from deltadex_dashboard.charts.lineage import lineage_dot, lineage_words
from tests.duplicates.test_levels import version

OWN, OTHER = version(1), version(2)
EDGES = (
    Edge(Relation.BASE, 'acme "lm" \\N', OWN),
    Edge(Relation.MERGE, OWN, OTHER),
    Edge(Relation.NEAR, OWN, masked(version(3)), 0.98),
)


def test_declared_relations_are_solid_and_measured_ones_dashed() -> None:
    dot = lineage_dot(EDGES, OWN, is_dark=False)
    assert 'base -> v1 [label="base of" style=solid]' in dot
    assert 'v1 -> v2 [label="adapter and its merge" style=dashed dir=none]' in dot
    assert "penwidth=2.5" in dot


def test_names_are_quoted_and_long_ones_end_in_an_ellipsis() -> None:
    assert r'label="acme \"lm\" \\N"' in lineage_dot(EDGES, OWN, is_dark=True)
    long = "x" * 200
    dot = lineage_dot([Edge(Relation.BASE, long, OWN)], OWN, is_dark=True)
    assert f'label="{"x" * 31}…" tooltip="{long}"' in dot


def test_the_graph_can_be_read_as_text() -> None:
    words = lineage_words(EDGES)
    assert f"{OWN.label} → {OTHER.label}: adapter and its merge" in words
    assert "→ •••: near duplicate, 0.980" in words
