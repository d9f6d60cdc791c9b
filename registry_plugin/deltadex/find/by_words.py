"""Search for models by words: in names, tags, descriptions, and the tokens that finetunes promote. Trains nothing."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.access import Person, Right
from deltadex.find import word_queries
from deltadex.search.filters import Conditions
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions.queries import by_ids

NOTHING_FOUND = "No model has any of these words in its name, tags, description or promoted tokens."


@dataclass(frozen=True)
class WordMatch:
    """The latest version of a model that matches, and where: in its `name`, `tags`, `description` or `words`."""

    version: VersionRow
    places: tuple[str, ...]


def models_with(
    tx: Transaction,
    viewer: Person,
    registry: str,
    text: str,
    *,
    k: int = 10,
    conditions: Conditions | None = None,
) -> tuple[WordMatch, ...]:
    """Return the models that match any word of a text, the best first; hidden models are left out.

    Parameters
    ----------
    conditions
        Conditions on the latest version of a model.
    """
    viewer.require(Right.LOOK)
    found = word_queries.hits(tx, registry, text, conditions=conditions)
    seen = [hit for hit in found if viewer.sees(hit.name)][:k]
    rows = by_ids(tx, [hit.version_id for hit in seen])
    return tuple(WordMatch(rows[hit.version_id], hit.places) for hit in seen)
