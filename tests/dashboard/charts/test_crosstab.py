"""The table of declared domains and measured clusters, checked by its specification."""

from __future__ import annotations

from deltadex_dashboard.charts.crosstab import MOST, crosstab_chart
from tests.dashboard.specs import layers


def test_each_cell_counts_versions_and_the_largest_come_first() -> None:
    cells, _ = layers(crosstab_chart(["sql", "sql", "sql", "legal"], ["a", "a", "b", "b"]))
    assert {(row["domain"], row["cluster"]): row["versions"] for row in cells["rows"]} == {
        ("sql", "a"): 2, ("sql", "b"): 1, ("legal", "b"): 1,
    }  # fmt: skip
    assert cells["encoding"]["y"]["scale"]["domain"] == ["sql", "legal"]


def test_only_the_largest_have_a_row() -> None:
    declared = [f"domain {number // 2 if number < 20 else number}" for number in range(60)]
    cells, _ = layers(crosstab_chart(declared, ["one"] * 60))
    assert len(cells["encoding"]["y"]["scale"]["domain"]) == MOST
