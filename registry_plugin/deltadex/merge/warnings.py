"""Warnings before a merge is built, from the parents' embeddings and sampled weights. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from deltadex.merge.methods import MergeMethod
from deltadex.merge.prediction import Prediction

#: Chosen on merges of the train and select domains of `benchmarks.real`; docs/merge.md says how often each was right on
#: other domains.
LEAST_KEPT, LEAST_ALIKE, MOST_CONFLICT = 0.7, 0.97, 0.55


class MergeRisk(StrEnum):
    """Reasons why a merge may be worse than its parents."""

    FADES = "fades"
    ALIKE = "alike"
    CONFLICT = "conflict"
    ROUGH = "rough"


@dataclass(frozen=True)
class MergeWarning:
    """A risk of a merge, in words."""

    risk: MergeRisk
    text: str


def warnings_of(
    prediction: Prediction, labels: Sequence[str], method: MergeMethod, *, conflict: float | None = None
) -> tuple[MergeWarning, ...]:
    """Return the warnings about a merge that was not built yet.

    Parameters
    ----------
    labels
        Names of the parents, in the order of the prediction.
    conflict
        Share of the larger entries of their updates at which the signs of two parents differ, mean over pairs; None if
        it is not known.
    """
    found = [
        MergeWarning(
            MergeRisk.FADES,
            f"The merge is predicted to keep {kept:.0%} of the shift of {label}: expect it to lose there. A larger "
            "weight for it helps.",
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
    if conflict is not None and conflict > MOST_CONFLICT:
        found.append(
            MergeWarning(
                MergeRisk.CONFLICT,
                f"The parents' updates pull in opposite directions at {conflict:.0%} of their larger entries "
                "(unrelated updates: 50 %).",
            )
        )
    if method.needs_equal_ranks and not method.prunes:
        found.append(
            MergeWarning(
                MergeRisk.ROUGH,
                f"{method} adds the factors of adapters, not their updates, which leaves products of one parent's "
                "factor with another's. cat and svd add the updates.",
            )
        )
    return tuple(found)
