"""The small map of the overview."""

from __future__ import annotations

from base64 import b64decode
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from deltadex.map.chart import Chart
from deltadex_dashboard.charts.small_map import small_map


def chart(labels: list[str], coordinates: list[list[float]], *, elsewhere: list[bool]) -> Chart:
    values: Any = SimpleNamespace(
        rows=[SimpleNamespace(label=label) for label in labels],
        coordinates=np.array(coordinates),
        domains=[label.split("/")[0] for label in labels],
        lies_elsewhere=np.array(elsewhere),
    )
    return cast(Chart, values)


def drawn(shown: Chart) -> str:
    return b64decode(small_map(shown).partition("base64,")[2].rstrip('">')).decode()


def test_each_version_is_a_point_within_the_picture() -> None:
    shown = drawn(chart(["<b>/1", "sql/1"], [[0, 0], [2, 1]], elsewhere=[False, True]))
    assert shown.count("<circle") == 2
    assert "<b>" not in shown, "no name is in the picture"
    assert 'cx="12.0" cy="228.0"' in shown
    assert 'cx="388.0" cy="12.0"' in shown
    assert shown.count("stroke=") == 1, "a ring round what lies elsewhere"


def test_one_point_and_very_many_are_no_trouble() -> None:
    assert drawn(chart(["a/1"], [[3, 3]], elsewhere=[False])).count("<circle") == 1
    many = chart(["a/1"] * 9_000, np.random.default_rng(0).normal(size=(9_000, 2)).tolist(), elsewhere=[False] * 9_000)
    assert drawn(many).count("<circle") == 2_000
