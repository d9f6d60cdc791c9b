"""Scores of merges, from measurements that are made up to be known, and from the committed ones."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.real.merge import RESULTS, Merged, report


def text(*values: float) -> str:
    return b64encode(np.array(values, "<f2").tobytes()).decode()


def test_gains_are_shares_of_what_each_parent_gains_on_its_own_text() -> None:
    parents = {"a 0": text(2, 0), "b 0": text(0, 2)}
    measured = {
        "parents": [["a", 0], ["b", 0]], "method": "cat", "conflict": 0.5, "vector": text(1, 1), "texts": ["a", "b"],
        "merge": [3.5, 2.0], "base": [4.0, 3.0], "single": [3.0, 1.0],
    }  # fmt: skip
    merged = Merged.of(measured, parents)
    assert merged.gains == pytest.approx((0.5, 0.5))
    assert merged.worse == pytest.approx((0.5, 1.0))
    assert merged.similarity == pytest.approx(1)
    assert merged.prediction.kept == pytest.approx((0.5, 0.5))
    assert (merged.loses, merged.is_alike, merged.risks) == (True, False, {"fades"})
    fine = Merged.of({**measured, "merge": [3.0, 1.0]}, parents)
    assert (fine.gains, fine.loses) == ((1, 1), False)


def test_the_committed_measurements_are_scored_without_any_model(tmp_path: Path) -> None:
    console = Console(record=True, width=150)
    found = report(tmp_path, console, quick=True)
    assert found["choose"]["cat"]["cosine"] > 0.99
    assert "warned that lose" in console.export_text()
    committed = json.loads(RESULTS.read_text())
    assert len([one for one in committed["choose"] if one["method"] == "cat"]) == 16
    assert not list(tmp_path.iterdir())
