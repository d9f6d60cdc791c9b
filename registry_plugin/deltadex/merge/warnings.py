"""Warnings before a merge is built, from the parents' embeddings. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from deltadex.merge.prediction import Prediction

#: Least predicted share of a parent's shift, and similarity from which parents are alike. Chosen on merges of the train
#: and select domains of `benchmarks.real`; docs/merge.md says how often they were right on other domains.
LEAST_KEPT, LEAST_ALIKE = 0.8, 0.95


class MergeRisk(StrEnum):
    """Reasons why a merge may not be worth building."""

    FADES = "fades"
    ALIKE = "alike"


@dataclass(frozen=True)
class MergeWarning:
    """A risk of a merge, in words."""

    risk: MergeRisk
    text: str


def warnings_of(prediction: Prediction, labels: Sequence[str]) -> tuple[MergeWarning, ...]:
    """Return the warnings about a merge that was not built yet.

    Parameters
    ----------
    labels
        Names of the parents, in the order of the prediction.
    """
    found = [
        MergeWarning(
            MergeRisk.FADES,
            f"The merge is predicted to keep {kept:.0%} of the shift of {label}: it may lose there (of such merges "
            "10 of 16 did in our test, of others 6 of 16). A larger weight for it moves the merge towards it.",
        )
        for label, kept in zip(labels, prediction.kept, strict=True)
        if kept < LEAST_KEPT
    ]
    if min(prediction.pairs) >= LEAST_ALIKE:
        found.append(
            MergeWarning(
                MergeRisk.ALIKE,
                f"All parents are alike (similarity at least {min(prediction.pairs):.3f}): the merge will act much "
                "like each of them. In LoraHub's setting the 20 most similar adapters merged worse than random ones, "
                "30.3 % against 34.3 %; one similar anchor with diverse others did best.",
            )
        )
    return tuple(found)
