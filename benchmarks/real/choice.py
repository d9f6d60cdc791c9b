"""The rule by which a recipe is chosen. It was committed before any model of a test domain was scored.

Of the candidates whose silhouette with equal settings is at most .01 below the published recipe's, the one with the
highest mean over the hard questions, on the domains of train and select. The published recipe stays unless the gain is
.02 or more.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.real.recipes import PUBLISHED
from benchmarks.real.scores import Answer

HARD = (
    "silhouette, other settings too",
    "nearest, own template",
    "nearest, the base's chat template",
    "nearest, other source",
    "close relatives, average precision",
    "task of 20 examples: its domain",
    "task of 20 examples: known or missing, AUC",
)
_PLAIN = "silhouette, same settings"
_MOST_LOST, _LEAST_GAINED = 0.01, 0.02


def chosen(answers: Mapping[str, Mapping[str, Answer]]) -> str:
    """Return the name of the recipe to keep, from answers by recipe and question on train and select."""
    enough = answers[PUBLISHED][_PLAIN].value - _MOST_LOST
    possible = [name for name, row in answers.items() if row[_PLAIN].value >= enough]
    best = max(possible, key=lambda name: mean_of_hard(answers[name]))
    gain = mean_of_hard(answers[best]) - mean_of_hard(answers[PUBLISHED])
    return best if gain >= _LEAST_GAINED else PUBLISHED


def mean_of_hard(answers: Mapping[str, Answer]) -> float:
    """Return the mean over the hard questions."""
    return sum(answers[question].value for question in HARD) / len(HARD)
