"""Drift charts, checked by their specification."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.drift.line import PlacedVersion, Space, follow
from deltadex.drift.model_drift import ModelDrift
from deltadex.embeddings.queries import RecipeRow
from deltadex.engine.probes import PAPER_PROBES
from deltadex.types import Queue, State, VersionRow
from deltadex_dashboard.charts.drift import drift_chart, drift_words, probes_chart
from tests.dashboard.specs import layers
from tests.stored import registered


def drifted(*vectors: tuple[float, float] | None) -> ModelDrift:
    """Return the drift of a model with these vectors; None is a version under another base."""
    rows = tuple(
        VersionRow(number, registered("m", number), State.EMBEDDED, None, None, 1, Queue.FRESH)
        for number in range(1, len(vectors) + 1)
    )
    points = [
        {2: PlacedVersion(np.ones(3), 1.0)}
        if vector is None
        else {1: PlacedVersion(np.array(vector), 1.0, np.array([vector] * 5))}
        for vector in vectors
    ]
    steps = follow(points, {1: Space("one", noise_floor=0.1), 2: Space("other")}, alias=0)
    recipe = RecipeRow(1, "d", "base", "b", 2, 2, None, "paper-5")
    return ModelDrift("m", rows, tuple(steps), {1: recipe, 2: recipe}, alias="champion")


def test_drift_over_the_threshold_has_another_symbol_and_size() -> None:
    _, _, points, *_ = layers(drift_chart(drifted((1, 0), (1, 0.1), (0, 1)), threshold=0.5))
    assert [(step["version"], step["change"]) for step in points["rows"]] == [("v2", False), ("v3", True)]
    shape, size = points["encoding"]["shape"], points["encoding"]["size"]
    assert shape["condition"] == {"test": "datum.change", "value": "diamond"}
    assert shape["value"] == "circle"
    assert size["condition"]["value"] > size["value"]


def test_drift_shows_noise_the_first_version_and_the_alias_and_breaks_off_at_another_base() -> None:
    chart = layers(drift_chart(drifted((1, 0), (0, 1), None), threshold=0.5))
    noise, lines, _, rule, text, *_ = chart
    before, after = noise["rows"]
    assert before["noise"] == pytest.approx(0.0099, abs=1e-3)
    assert [after[field] for field in ("previous", "first", "alias", "noise")] == [None] * 4
    assert {row["line"] for row in lines["rows"]} == {"from the version before", "from the first", "from @champion"}
    assert [row["distance"] for row in lines["rows"] if row["version"] == "v3"] == [None] * 3
    assert [step["broken"] for step in rule["rows"]] == [None, "another base"]
    assert text["encoding"]["text"]["field"] == "broken"


def test_the_threshold_is_on_the_chart_of_a_steady_model() -> None:
    chart = layers(drift_chart(drifted((1, 0), (1, 0.1)), threshold=0.5))
    [limit] = [layer for layer in chart if layer["mark"].get("strokeDash") == [6, 4]]
    assert limit["rows"] == [{"distance": 0.5, "text": "threshold 0.5"}]
    low, high = limit["encoding"]["y"]["scale"]["domain"]
    assert low == 0
    assert high > 0.5


def test_each_probe_has_its_own_row() -> None:
    [heat] = layers(probes_chart(drifted((1, 0), (0, 1), None)))
    assert [(cell["step"], cell["probe"], cell["distance"]) for cell in heat["rows"]] == [
        ("v2", probe, pytest.approx(1.0)) for probe in PAPER_PROBES.distinct_parts
    ]


def test_a_chart_says_in_words_what_it_shows() -> None:
    assert drift_words(drifted((1, 0), (0, 1))) == "m over 2 versions: largest step 1.000, 1 drifts"
