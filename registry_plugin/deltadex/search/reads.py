"""Nearest neighbours for a viewer. Neighbours of hidden models are masked, not left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deltadex.access import Person
from deltadex.search import neighbors as search
from deltadex.search.filters import Conditions
from deltadex.search.neighbors import NOTHING, Found
from deltadex.search.query_vector import Questions, mixture
from deltadex.store.database import Transaction
from deltadex.versions import reads as versions


def neighbors(
    tx: Transaction,
    viewer: Person,
    version_id: int,
    *,
    mixed_with: Sequence[int] = (),
    base: str | None = None,
    k: int | None = 10,
    min_similarity: float = -1.0,
    conditions: Conditions | None = None,
) -> Found:
    """Return the nearest neighbours, in the same registry, of a version or of its sum with others.

    Versions that are too weak to place or hidden from the viewer have none.

    Parameters
    ----------
    base
        Compare under this base model; None compares under the latest recipe.
    k, min_similarity
        As in `deltadex.search.neighbors.answer`.
    conditions
        As in `answer`.
    """
    ids = (version_id, *mixed_with)
    base = base and viewer.shown_address(base)
    questions = mixture(tx, dict.fromkeys(ids, 1.0), base=base) if versions.sees_versions(tx, viewer, *ids) else None
    if questions is None:
        return NOTHING
    [found] = answer(tx, viewer, questions, k=k, min_similarity=min_similarity, conditions=conditions)
    return found


def answer(
    tx: Transaction,
    viewer: Person,
    questions: Questions,
    *,
    k: int | None = 10,
    min_similarity: float = -1.0,
    conditions: Conditions | None = None,
) -> list[Found]:
    """Return the neighbours of each vector, as `deltadex.search.neighbors.answer` does.

    Parameters
    ----------
    conditions
        Conditions on masked properties exclude hidden models: a match would reveal their names, tags and aliases.
    """
    visible = _visible(tx, viewer, questions.registry, conditions)
    results = search.answer(tx, questions, k=k, min_similarity=min_similarity, conditions=visible)
    return [
        replace(found, neighbors=tuple(replace(one, version=viewer.view(one.version)) for one in found.neighbors))
        for found in results
    ]


def _visible(tx: Transaction, viewer: Person, registry: str, conditions: Conditions | None) -> Conditions | None:
    # Conditions on the state alone are allowed: masked rows show their state.
    if viewer.sees_all or conditions is None or replace(conditions, states=frozenset()) == Conditions():
        return conditions
    return replace(conditions, names=frozenset(versions.names(tx, viewer, registry)))
