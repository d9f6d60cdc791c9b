"""The words of embeddings, as they were made with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from deltadex.domain import Embedding, Word, Words
from deltadex.store import embeddings
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow


def save(tx: Transaction, version_id: int, recipe_id: int, embedding: Embedding) -> None:
    """Store what an embedding says, where it was asked; its row must be there. Said again it is what it was."""
    said = embedding.words
    if said is None:
        return
    tx.execute(
        """
        insert into words (model_version_id, recipe_id, weights_digest, promoted, demoted, note)
        values (%s, %s, %s, %s, %s, %s)
        on conflict (model_version_id, recipe_id, weights_digest) do update set
            promoted = excluded.promoted, demoted = excluded.demoted, note = excluded.note
        where words.note <> ''
        """,
        [version_id, recipe_id, embedding.weights_digest, _listed(said.promoted), _listed(said.demoted), said.note],
    )


def of_versions(tx: Transaction, recipe_id: int, version_ids: Sequence[int]) -> dict[int, Words]:
    """Return the words of versions under one recipe, by version id; those that have none on record are left out."""
    found = tx.execute(
        """
        select model_version_id, promoted, demoted, note
        from words join current_embeddings using (model_version_id, recipe_id, weights_digest)
        where recipe_id = %s and model_version_id = any(%s)
        """,
        [recipe_id, list(version_ids)],
    )
    return {version_id: Words(_words(promoted), _words(demoted), note) for version_id, promoted, demoted, note in found}


@dataclass(frozen=True)
class VersionWords:
    """What a version's embedding under one recipe says.

    Attributes
    ----------
    words
        None where nobody asked: it was embedded with words switched off, or by an earlier Deltadex.
    is_weak
        The embedding is too weak to place, and its words are hardly more than noise.
    """

    recipe: RecipeRow
    words: Words | None
    is_weak: bool


def of_version(tx: Transaction, version_id: int) -> list[VersionWords]:
    """Return what a version says under each recipe, the latest first; nothing before it is embedded."""
    return [
        VersionWords(stored.recipe, of_versions(tx, stored.recipe.id, [version_id]).get(version_id), stored.is_weak)
        for stored in embeddings.of_version(tx, version_id)
    ]


def _listed(words: Sequence[Word]) -> Jsonb:
    return Jsonb([[word.text, word.score] for word in words])


def _words(listed: Sequence[tuple[str, float]]) -> tuple[Word, ...]:
    return tuple(Word(text, score) for text, score in listed)
