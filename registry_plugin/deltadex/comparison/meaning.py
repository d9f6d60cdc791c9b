"""The meaning of a similarity in words, and reasons why there is none. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.access import HIDDEN
from deltadex.drift.compare import Comparison
from deltadex.duplicates.rules import is_near, norm_ratio
from deltadex.embeddings.queries import StoredEmbedding
from deltadex.findings.calibration import Calibration
from deltadex.types import State, VersionRow


def meaning(compared: Comparison, calibration: Calibration, *, have_same_weights: bool) -> str:
    """Return the meaning of a similarity by the recipe's thresholds, as a sentence."""
    near, task = calibration.near_similarity, calibration.same_task
    similarity, ratio = 1 - compared.move.distance, float(norm_ratio(*compared.strengths))
    if have_same_weights:
        return "They have the same weights."
    if is_near(similarity, ratio, calibration):
        return f"They are near duplicates: models count as such from a similarity of {near.value:.3f} ({near.note})."
    if near.is_known and similarity >= near.value:
        return (
            f"They change the base in the same direction, one {1 / ratio:.1f} times as much as the other. "
            f"Near duplicates have a similarity of {near.value:.3f} or more and about the same strength."
        )
    if not task.is_known:
        return f"The threshold for the same task is {task.note}. Compare with the neighbours of either version."
    if similarity >= task.value:
        return f"They probably do the same task: models are taken to do so from a similarity of {task.value:.3f}."
    return f"They probably do different tasks: those for the same one have a similarity of {task.value:.3f} or more."


def obstacle(rows: Sequence[VersionRow], stored: Sequence[Sequence[StoredEmbedding]]) -> str:
    """Return why two versions without a common recipe can't be compared, as sentences."""
    problems = [
        _missing(row, embeddings)
        for row, embeddings in zip(rows, stored, strict=True)
        if not any(not one.is_weak for one in embeddings)
    ]
    if problems:
        return " ".join(problems)
    bases = [{one.recipe.base_digest: one.recipe.base_name for one in embeddings} for embeddings in stored]
    if not bases[0].keys() & bases[1].keys():
        names = [" and ".join(sorted(set(each.values()))) for each in bases]
        again = ", which has other weights under the same name" if names[0] == names[1] != HIDDEN else ""
        return f"They have different base models: {names[0]} and {names[1]}{again}."
    return "They were embedded by different methods. `deltadex method` shows the registry's; the backfill embeds again."


def _missing(row: VersionRow, embeddings: Sequence[StoredEmbedding]) -> str:
    if embeddings:
        return f"{row.label} changes its base too little to be compared."
    reason = f": {row.reason}" if row.reason and row.state is not State.EMBEDDED else ""
    return f"{row.label} has no embedding, its state is {row.state}{reason.rstrip('.')}."
