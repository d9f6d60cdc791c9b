"""Comparison of two versions under one recipe: strengths, and distances per probe."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.access import Person
from deltadex.drift import queries as model_history
from deltadex.drift.line import Move, Space, move
from deltadex.embeddings.queries import RecipeRow
from deltadex.store.database import Transaction
from deltadex.versions.reads import sees_versions


@dataclass(frozen=True)
class Comparison:
    """Comparison of two versions.

    Attributes
    ----------
    strengths
        Strength of each version; see `deltadex.types.Embedding`.
    move
        Move from the first version to the second.
    """

    strengths: tuple[float, float]
    move: Move


def compare(tx: Transaction, viewer: Person, recipe: RecipeRow, one: int, other: int) -> Comparison | None:
    """Compare two versions by id; None if one of them is hidden or cannot be placed under the recipe."""
    if not sees_versions(tx, viewer, one, other):
        return None
    found = model_history.measured(tx, recipe.id, {one, other})
    if not {one, other} <= found.keys():
        return None
    space = Space(recipe.base_digest, recipe.noise_floor)
    moved = move({recipe.id: found[one]}, {recipe.id: found[other]}, {recipe.id: space})
    assert moved is not None  # noqa: S101 - both are under this recipe
    return Comparison((found[one].strength, found[other].strength), moved)
