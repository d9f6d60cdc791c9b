"""The map, checked by its figure."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

import deltadex_dashboard
from deltadex_dashboard.charts.colors import CATEGORIES, TEXT_COLORS
from deltadex_dashboard.charts.map import ELSEWHERE, MOST_GROUPS, MapPoint, hover_cards, map_figure

COORDINATES = np.array([[0, 0], [0, 1], [5, 5], [9, 0]], dtype=float)
PLACES = [MapPoint(1, "a/1", "sql"), MapPoint(2, "b/1", "sql"), MapPoint(3, "c/1", "legal"), MapPoint(4, "d/1", None)]


def points(figure: go.Figure) -> list[go.Scattergl]:
    return [trace for trace in figure.data if trace.customdata is not None]


def test_every_group_has_a_trace_with_a_colour_and_a_symbol_of_its_own() -> None:
    traces = points(map_figure(PLACES, COORDINATES))
    assert [trace.name for trace in traces] == ["sql", "legal", "in no group"]
    assert len({trace.marker.color for trace in traces}) == 3
    assert len({trace.marker.symbol for trace in traces}) == 3


def test_a_click_tells_the_version() -> None:
    traces = points(map_figure(PLACES, COORDINATES))
    assert [point for trace in traces for point in trace.customdata] == [1, 2, 3, 4]
    assert [label for trace in traces for label in trace.text] == ["a/1", "b/1", "c/1", "d/1"]


def test_what_is_no_version_can_be_neither_hovered_nor_selected() -> None:
    figure = map_figure(PLACES, COORDINATES, selected=3)
    others = [trace for trace in figure.data if trace.customdata is None]
    assert others
    assert {trace.hoverinfo for trace in others} == {"skip"}
    assert {trace.name for trace in others if trace.showlegend is not False} == {"selected"}


def test_the_map_keeps_its_place_when_it_is_drawn_again() -> None:
    one, other = map_figure(PLACES, COORDINATES), map_figure(PLACES[:2], COORDINATES[:2])
    assert one.layout.uirevision
    assert one.layout.uirevision == other.layout.uirevision


def test_a_click_is_not_taken_for_the_start_of_a_box() -> None:
    """With `dragmode="select"` Streamlit asks for drags only."""
    assert map_figure(PLACES, COORDINATES).layout.dragmode == "pan"


def test_a_version_that_lies_elsewhere_has_a_ring() -> None:
    points = [*PLACES, MapPoint(5, "e/1", "sql", lies_elsewhere=True)]
    [ring] = [trace for trace in map_figure(points, np.vstack([COORDINATES, [[5, 4]]])).data if trace.name == ELSEWHERE]
    assert (ring.x.tolist(), ring.y.tolist(), ring.marker.symbol) == ([5], [4], "circle-open")


def test_what_a_search_does_not_match_is_faded_and_has_no_halo() -> None:
    places = [MapPoint(1, "a/1", "sql"), MapPoint(2, "b/1", "sql", is_faded=True)]
    [trace] = map_figure(places, COORDINATES[:2]).data
    shown, faded = trace.marker.opacity
    assert shown == 1
    assert faded < 0.2


def test_the_path_of_a_model_leads_from_version_to_version() -> None:
    places = [MapPoint(number, f"a/{number}", "sql") for number in (1, 2, 3)]
    figure = map_figure(places, COORDINATES[:3], path=[1, 3, 2], named=False)
    [path] = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert path.x.tolist() == [0, 5, 0]
    assert [step.text for step in figure.layout.annotations] == ["<b>v1</b>", "<b>v3</b>", "<b>v2</b>"]
    assert not map_figure(places, COORDINATES[:3], path=[1], named=False).layout.annotations


FACTS = (("owner", "ann & <b>bob</b>"), ("aliases", ""), ("domain", None), ("cluster", "sql"))


def test_a_card_leaves_out_what_is_unknown_and_shows_untrusted_text_as_it_is() -> None:
    [card] = hover_cards([FACTS])
    assert card == "owner: ann &amp; &lt;b&gt;bob&lt;/b&gt;<br>cluster: sql"
    assert hover_cards([FACTS] * 2_000)[0] == "ann &amp; &lt;b&gt;bob&lt;/b&gt; · sql"
    [hostile] = map_figure([MapPoint(1, "<i>%{x}/1", None, card)], np.zeros((1, 2)), named=False).data[-1:]
    assert hostile.hovertext[0].startswith("<b>&lt;i&gt;&#37;{x}/1</b><br>owner")
    assert "%{text}" not in hostile.hovertemplate


def test_names_are_written_apart_even_where_groups_lie_on_top_of_each_other() -> None:
    places = [MapPoint(part, f"{group}/{part}", group) for group in ("a", "b", "c", "d") for part in (1, 2)]
    coordinates = np.tile([[0.0, 0.0], [1.0, 1.0]], (4, 1))
    names = map_figure(places, coordinates).layout.annotations
    assert {re.sub("<span.*</span> ", "", name.text) for name in names} == {f"<b>{group}</b>" for group in "abcd"}
    assert len({(name.x, name.y, name.xshift, name.yshift) for name in names}) == 4


def test_names_of_groups_without_a_region_are_only_in_the_legend() -> None:
    assert not map_figure(PLACES, COORDINATES, named=False).layout.annotations


def test_a_map_of_models_that_all_do_the_same_can_be_drawn() -> None:
    figure = map_figure(PLACES[:2], np.zeros((2, 2)))
    low, high = figure.layout.xaxis.range
    assert low < 0 < high


def test_more_groups_than_colours_never_share_both_colour_and_symbol() -> None:
    count = MOST_GROUPS
    places = [MapPoint(number, f"m{number}/1", f"group {number}") for number in range(count)]
    traces = points(map_figure(places, np.random.default_rng(0).normal(size=(count, 2))))
    assert len({(trace.marker.color, trace.marker.symbol) for trace in traces}) == count


def test_the_smallest_of_very_many_groups_are_drawn_as_one() -> None:
    places = [
        MapPoint(number, f"m{number}/1", f"group {number // 2 if number < 80 else number}") for number in range(90)
    ]
    traces = points(map_figure(places, np.random.default_rng(0).normal(size=(90, 2))))
    assert len(traces) == MOST_GROUPS + 1
    assert (traces[-1].name, len(traces[-1].x)) == ("smaller groups", 10)


def test_coordinates_are_sent_as_four_bytes_each() -> None:
    places = [MapPoint(number, f"m{number}/1", "one") for number in range(10_000)]
    figure = map_figure(places, np.random.default_rng(0).normal(size=(10_000, 2)))
    assert figure.data[0].x.dtype == np.float32
    assert len(figure.to_json()) < 400_000


def test_the_theme_has_the_colours_of_the_map() -> None:
    [folder] = deltadex_dashboard.__path__
    config = tomllib.loads((Path(folder) / ".streamlit" / "config.toml").read_text())
    assert tuple(config["theme"]["chartCategoricalColors"]) == CATEGORIES
    assert {name: config["theme"][name]["textColor"] for name in TEXT_COLORS} == TEXT_COLORS
    assert len(CATEGORIES) >= 12
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"] == {"toolbarMode": "viewer", "showErrorDetails": "none"}
