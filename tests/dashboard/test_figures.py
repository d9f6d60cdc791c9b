"""Figures are pure: what they show can be read off them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

import deltadex_dashboard
from deltadex.analysis.drift import Measured, Space, follow
from deltadex.domain import Queue, State, VersionRow
from deltadex.drifting import ModelDrift
from deltadex.store.embeddings import RecipeRow
from deltadex_dashboard import figures
from deltadex_dashboard.figures import Place
from tests.store.examples import registered

COORDINATES = np.array([[0, 0], [0, 1], [5, 5], [9, 0]], dtype=float)
PLACES = [Place(1, "a/1", "sql"), Place(2, "b/1", "sql"), Place(3, "c/1", "legal"), Place(4, "d/1", None)]


def points(figure: go.Figure) -> list[go.Scattergl]:
    return [trace for trace in figure.data if trace.customdata is not None]


def drifted(*vectors: tuple[float, float] | None) -> ModelDrift:
    """The drift of a model with these vectors; None: embedded under another base."""
    rows = tuple(
        VersionRow(number, registered("m", number), State.EMBEDDED, None, None, 1, Queue.FRESH)
        for number in range(1, len(vectors) + 1)
    )
    points = [
        {2: Measured(np.ones(3), 1.0)}
        if vector is None
        else {1: Measured(np.array(vector), 1.0, np.array([vector] * 5))}
        for vector in vectors
    ]
    steps = follow(points, {1: Space("one", noise_floor=0.1), 2: Space("other")}, limit=0.5, alias=0)
    recipe = RecipeRow(1, "d", "base", "b", 2, 2, None)
    return ModelDrift("m", rows, tuple(steps), {1: recipe, 2: recipe}, alias="champion")


def test_every_group_has_a_trace_with_a_colour_and_a_symbol_of_its_own() -> None:
    traces = points(figures.map_figure(PLACES, COORDINATES))
    assert [trace.name for trace in traces] == ["sql", "legal", "in no group"]
    assert len({trace.marker.color for trace in traces}) == 3
    assert len({trace.marker.symbol for trace in traces}) == 3


def test_a_click_tells_the_version() -> None:
    traces = points(figures.map_figure(PLACES, COORDINATES))
    assert [point for trace in traces for point in trace.customdata] == [1, 2, 3, 4]
    assert [label for trace in traces for label in trace.text] == ["a/1", "b/1", "c/1", "d/1"]


def test_what_is_no_version_can_be_neither_hovered_nor_selected() -> None:
    figure = figures.map_figure(PLACES, COORDINATES, selected=3)
    others = [trace for trace in figure.data if trace.customdata is None]
    assert others
    assert {trace.hoverinfo for trace in others} == {"skip"}
    assert not any(trace.showlegend for trace in others)


def test_the_map_keeps_its_place_when_it_is_drawn_again() -> None:
    one, other = figures.map_figure(PLACES, COORDINATES), figures.map_figure(PLACES[:2], COORDINATES[:2])
    assert one.layout.uirevision
    assert one.layout.uirevision == other.layout.uirevision


def test_names_are_written_apart_even_where_groups_lie_on_top_of_each_other() -> None:
    places = [Place(part, f"{group}/{part}", group) for group in ("a", "b", "c", "d") for part in (1, 2)]
    coordinates = np.tile([[0.0, 0.0], [1.0, 1.0]], (4, 1))
    names = figures.map_figure(places, coordinates).layout.annotations
    assert {name.text for name in names} == {f"<b>{group}</b>" for group in "abcd"}
    assert len({(name.x, name.y, name.xshift, name.yshift) for name in names}) == 4


def test_names_of_groups_that_are_no_places_are_left_to_the_legend() -> None:
    assert not figures.map_figure(PLACES, COORDINATES, named=False).layout.annotations


def test_a_map_of_models_that_all_do_the_same_can_be_drawn() -> None:
    figure = figures.map_figure(PLACES[:2], np.zeros((2, 2)))
    low, high = figure.layout.xaxis.range
    assert low < 0 < high


def test_more_groups_than_colours_never_share_both_colour_and_symbol() -> None:
    count = figures.MOST_GROUPS
    places = [Place(number, f"m{number}/1", f"group {number}") for number in range(count)]
    traces = points(figures.map_figure(places, np.random.default_rng(0).normal(size=(count, 2))))
    assert len({(trace.marker.color, trace.marker.symbol) for trace in traces}) == count


def test_the_smallest_of_very_many_groups_are_drawn_as_one() -> None:
    places = [Place(number, f"m{number}/1", f"group {number // 2 if number < 80 else number}") for number in range(90)]
    traces = points(figures.map_figure(places, np.random.default_rng(0).normal(size=(90, 2))))
    assert len(traces) == figures.MOST_GROUPS + 1
    assert (traces[-1].name, len(traces[-1].x)) == ("smaller groups", 10)


def test_coordinates_are_sent_as_four_bytes_each() -> None:
    places = [Place(number, f"m{number}/1", "one") for number in range(10_000)]
    figure = figures.map_figure(places, np.random.default_rng(0).normal(size=(10_000, 2)))
    assert figure.data[0].x.dtype == np.float32
    assert len(figure.to_json()) < 400_000


def test_a_number_is_drawn_beside_its_threshold() -> None:
    _, marks = figures.measure_figure(0.7, 0.5, what="cosine distance").data
    assert list(marks.x) == [0.5, 0.7]
    assert marks.text == ("threshold 0.5", "<b>0.7</b>")


def test_drift_over_the_threshold_has_another_symbol_and_size() -> None:
    figure = figures.drift_figure(drifted((1, 0), (1, 0.1), (0, 1)), threshold=0.5)
    steps = figure.data[-1]
    assert list(steps.x) == ["v2", "v3"]
    assert list(steps.marker.symbol) == ["circle", "diamond"]
    assert steps.marker.size[1] > steps.marker.size[0]
    assert [line.y0 for line in figure.layout.shapes] == [0.5]


def test_drift_shows_noise_the_first_version_and_the_alias_and_breaks_off_at_another_base() -> None:
    figure = figures.drift_figure(drifted((1, 0), (0, 1), None), threshold=0.5)
    assert [trace.name for trace in figure.data] == [
        "noise",
        "from the first",
        "from @champion",
        "from the version before",
    ]
    assert [list(trace.y)[1] for trace in figure.data] == [None] * 4
    assert figure.data[0].y[0] == pytest.approx(0.0099, abs=1e-3)
    assert figure.layout.annotations[0].text == "another base"


def test_each_probe_has_its_own_row() -> None:
    [heat] = figures.probes_figure(drifted((1, 0), (0, 1), None)).data
    assert np.array(heat.z).tolist() == [[1.0]] * 5
    assert list(heat.x) == ["v2"]


def test_the_threshold_is_on_the_chart_of_a_steady_model() -> None:
    figure = figures.drift_figure(drifted((1, 0), (1, 0.1)), threshold=0.5)
    low, high = figure.layout.yaxis.range
    assert low <= 0
    assert high > 0.5


def test_similarities_are_written_into_a_small_heat_map_only() -> None:
    small = figures.similarity_figure(["a/1", "b/1"], np.eye(2))
    large = figures.similarity_figure([f"m/{number}" for number in range(20)], np.eye(20))
    assert small.data[0].texttemplate
    assert not large.data[0].texttemplate
    assert list(small.data[0].x) == ["a/1", "b/1"]


def test_the_theme_has_the_colours_of_the_map() -> None:
    [folder] = deltadex_dashboard.__path__
    config = tomllib.loads((Path(folder) / ".streamlit" / "config.toml").read_text())
    assert tuple(config["theme"]["chartCategoricalColors"]) == figures.COLORS
    assert len(figures.COLORS) >= 12
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"] == {"toolbarMode": "viewer", "showErrorDetails": "none"}
