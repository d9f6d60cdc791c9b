"""The plan of a merge: what it is predicted to be, and what speaks against it. Needs no torch and builds nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from deltadex.access import Person
from deltadex.embeddings import imprints
from deltadex.merge.methods import MergeMethod
from deltadex.merge.prediction import Prediction, predict
from deltadex.merge.warnings import MergeWarning, warnings_of
from deltadex.search import reads as search
from deltadex.search.neighbors import Neighbor
from deltadex.search.query_vector import Questions, stored_vectors
from deltadex.store.database import Transaction
from deltadex.types import FloatArray
from deltadex.versions.queries import by_ids
from deltadex.versions.reads import sees_versions

#: Versions shown that are near the predicted merge.
_NEAR = 5
#: Share of the sampled entries of an update that count as large, as in `deltadex.engine.merging`.
_LARGER = 0.2


@dataclass(frozen=True, eq=False)
class MergePlan:
    """A merge before it is built.

    Attributes
    ----------
    recipe_id, recipe_digest
        The recipe under which it is predicted.
    conflict
        Share of the larger sampled entries at which the signs of two updates differ, mean over pairs; None for full
        models. On real finetunes it did not tell which merges lose (docs/merge.md), so it warns of nothing.
    near
        Versions closest to the prediction, apart from the parents; hidden ones are masked.
    """

    recipe_id: int
    recipe_digest: str
    base_name: str
    prediction: Prediction
    conflict: float | None
    near: tuple[Neighbor, ...]
    warnings: tuple[MergeWarning, ...]


def plan(
    tx: Transaction,
    viewer: Person,
    ids: Sequence[int],
    *,
    method: MergeMethod,
    weights: Sequence[float],
    base: str | None = None,
) -> MergePlan | None:
    """Predict the merge of versions.

    Parameters
    ----------
    ids
        The parents: at least two, each once, in one registry.
    base
        Name of the base under which they are compared; None for the latest recipe that they share.

    Returns
    -------
    MergePlan or None
        None if a parent is hidden from the viewer, is too weak to place, or has no embedding under a recipe that all
        share, as finetunes of different bases; or if the weighted sum is zero.
    """
    stored = (
        stored_vectors(tx, ids, base=base and viewer.shown_address(base)) if sees_versions(tx, viewer, *ids) else None
    )
    if stored is None:
        return None
    prediction = predict([stored.vectors[each] for each in ids], method.as_of_a_sum(weights))
    if not prediction.vector.any():
        return None
    rows = by_ids(tx, ids)
    conflict = _conflict(_updates(tx, stored.recipe_id, ids), ids, weights)
    question = prediction.vector.astype(np.float32)[None]
    asked = Questions(stored.recipe_id, stored.registry, question, frozenset(ids))
    [found] = search.answer(tx, viewer, asked, k=_NEAR)
    labels = [rows[each].label for each in ids]
    return MergePlan(
        stored.recipe_id,
        stored.recipe_digest,
        viewer.shown_address(stored.base_name),
        prediction,
        conflict,
        tuple(found.neighbors),
        warnings_of(prediction, labels),
    )


def _updates(tx: Transaction, recipe_id: int, ids: Sequence[int]) -> dict[int, FloatArray]:
    """Return the sampled updates of adapters by version id; full models have none."""
    found = imprints.of_versions(tx, recipe_id, ids)
    return {each: one.updates for each, one in found.items() if one.updates is not None}


def _conflict(updates: Mapping[int, FloatArray], ids: Sequence[int], weights: Sequence[float]) -> float | None:
    """Return the share of larger entries at which two weighted updates have other signs, mean over pairs."""
    if len(updates) < len(ids):
        return None
    signed = [weight * updates[each] for each, weight in zip(ids, weights, strict=True)]
    shares = []
    for one, other in combinations(signed, 2):
        both = _is_large(one) & _is_large(other)
        if both.any():
            shares.append(float(np.mean((np.sign(one) != np.sign(other))[both])))
    return float(np.mean(shares)) if shares else None


def _is_large(update: FloatArray) -> NDArray[np.bool_]:
    sizes = np.abs(update)
    changed = sizes[sizes > 0]
    large: NDArray[np.bool_] = sizes > (np.quantile(changed, 1 - _LARGER) if len(changed) else np.inf)
    return large
