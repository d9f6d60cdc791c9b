"""The meaning of a similarity in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deltadex.comparison.meaning import meaning
from deltadex.drift.compare import Comparison
from deltadex.drift.line import Move
from deltadex.findings.calibration import UNKNOWN, Calibration, Threshold

CALIBRATION = Calibration(
    Threshold(0.95, 12, "90% of 12 pairs of reseeds reach it"), Threshold(0.8), Threshold(0.7), Threshold(0.5)
)


def said(
    similarity: float, *, strengths: tuple[float, float] = (0.1, 0.1), calibration: Calibration = CALIBRATION
) -> str:
    move = Move(1, 1 - similarity, strengths[1] / strengths[0], None, noise=0.0, limit=0.5)
    return meaning(Comparison(strengths, move), calibration, have_same_weights=False)


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (0.99, "near duplicates: models count as such from a similarity of 0.950 (90% of 12 pairs"),
        (0.8, "probably do the same task"),
        (0.2, "probably do different tasks: those for the same one have a similarity of 0.700 or more"),
    ],
)
def test_a_similarity_is_read_by_the_thresholds_of_its_recipe(similarity: float, expected: str) -> None:
    assert expected in said(similarity)


def test_near_duplicates_are_also_about_as_strong() -> None:
    assert "same direction, one 5.0 times as much as the other" in said(0.99, strengths=(0.1, 0.5))


def test_without_a_threshold_nothing_is_claimed() -> None:
    unknown = Threshold(UNKNOWN, note="not known yet: 3 models, 15 are needed to calibrate")
    uncalibrated = replace(CALIBRATION, near_similarity=unknown, same_task=unknown)
    assert "not known yet: 3 models" in said(0.99, calibration=uncalibrated)


def test_equal_weights_need_no_threshold() -> None:
    compared = Comparison((0.1, 0.1), Move(1, 0.0, 1.0, None, noise=0.0, limit=0.5))
    assert meaning(compared, CALIBRATION, have_same_weights=True) == "They have the same weights."
