"""Two versions side by side, under one recipe: how strong each is, and how they differ, probe by probe."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.analysis.drift import Move, Space, move
from deltadex.store import model_history
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow


@dataclass(frozen=True)
class Comparison:
    """How two versions compare.

    Attributes
    ----------
    strengths
        Of one and the other, as in `deltadex.domain.Embedding`.
    move
        From the one to the other.
    """

    strengths: tuple[float, float]
    move: Move


def compare(tx: Transaction, recipe: RecipeRow, one: int, other: int) -> Comparison | None:
    """Return how two versions, by id, compare; None where one of them has no place under the recipe."""
    found = model_history.measured(tx, recipe.id, {one, other})
    if not {one, other} <= found.keys():
        return None
    space = Space(recipe.base_digest, recipe.noise_floor)
    moved = move({recipe.id: found[one]}, {recipe.id: found[other]}, {recipe.id: space})
    assert moved is not None  # noqa: S101 - both are under this recipe
    return Comparison((found[one].strength, found[other].strength), moved)
