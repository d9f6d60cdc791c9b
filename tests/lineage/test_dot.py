"""The lineage graph in the DOT language."""

from __future__ import annotations

from deltadex.access import masked
from deltadex.lineage.dot import lineage_dot, lineage_words
from deltadex.lineage.graph import Edge, Relation
from tests.duplicates.test_levels import version

OWN, OTHER = version(1), version(2)
EDGES = (
    Edge(Relation.BASE, 'acme "lm" \\N', OWN),
    Edge(Relation.MERGE, OWN, OTHER, has_order=False),
    Edge(Relation.MERGED, OTHER, OWN, 0.7, p=1e-200, weight=0.25),
    Edge(Relation.NEAR, OWN, masked(version(3)), 0.98),
)


def test_declared_relations_are_solid_and_measured_ones_dashed() -> None:
    dot = lineage_dot(EDGES, OWN, is_dark=False)
    assert 'base -> v1 [label="base of" style=solid]' in dot
    assert 'v1 -> v2 [label="adapter and its merge" style=dashed dir=none]' in dot
    assert 'v2 -> v1 [label="merged into, 25%, p < 1e-99" style=dashed]' in dot
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
