"""Stored tokens that a finetune promotes and demotes (its words), written with its embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from deltadex.access import Person
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.store.database import Transaction
from deltadex.types import Embedding, Word, Words


def save(tx: Transaction, version_id: int, recipe_id: int, embedding: Embedding) -> None:
    """Store the words of an embedding, if it has any; the row of the embedding must exist.

    Idempotent. Only words that could not be computed (they have a note) are replaced.
    """
    words = embedding.words
    if words is None:
        return
    tx.execute(
        """
        insert into words (model_version_id, recipe_id, weights_digest, promoted, demoted, note)
        values (%s, %s, %s, %s, %s, %s)
        on conflict (model_version_id, recipe_id, weights_digest) do update set
            promoted = excluded.promoted, demoted = excluded.demoted, note = excluded.note
        where words.note <> ''
        """,
        [version_id, recipe_id, embedding.weights_digest, _json(words.promoted), _json(words.demoted), words.note],
    )


def outdated(tx: Transaction, recipe_id: int, registry: str, *, fewer_than: int) -> list[int]:
    """Return the versions whose words were told apart from those of fewer models than this, in order of id."""
    found = tx.execute(
        """
        select model_version_id
        from words join current_embeddings using (model_version_id, recipe_id, weights_digest)
        join model_versions on id = model_version_id
        where recipe_id = %s and registry = %s and state <> 'deleted' and has_direction and note = ''
            and among < %s
        order by model_version_id
        """,
        [recipe_id, registry, fewer_than],
    )
    return [version_id for (version_id,) in found]


def replace(tx: Transaction, recipe_id: int, told: Mapping[int, Words]) -> None:
    """Replace the words of versions' current embeddings under a recipe, by version id."""
    for version_id, words in told.items():
        tx.execute(
            """
            update words set promoted = %s, demoted = %s, among = %s from current_embeddings as current
            where current.model_version_id = %s and current.recipe_id = %s
                and words.model_version_id = current.model_version_id and words.recipe_id = current.recipe_id
                and words.weights_digest = current.weights_digest
            """,
            [_json(words.promoted), _json(words.demoted), words.among, version_id, recipe_id],
        )


def of_versions(tx: Transaction, recipe_id: int, version_ids: Sequence[int]) -> dict[int, Words]:
    """Return the words of versions under one recipe, by version id; versions without words are left out."""
    found = tx.execute(
        """
        select model_version_id, promoted, demoted, note, among
        from words join current_embeddings using (model_version_id, recipe_id, weights_digest)
        where recipe_id = %s and model_version_id = any(%s)
        """,
        [recipe_id, list(version_ids)],
    )
    return {
        version_id: Words(_words(promoted), _words(demoted), note, among)
        for version_id, promoted, demoted, note, among in found
    }


@dataclass(frozen=True)
class VersionWords:
    """The words of a version's embedding under one recipe.

    Attributes
    ----------
    words
        None if the version was embedded with words switched off or by an earlier Deltadex.
    is_weak
        The embedding is too weak to place, so that its words are little more than noise.
    """

    recipe: RecipeRow
    words: Words | None
    is_weak: bool


def of_version(tx: Transaction, viewer: Person, version_id: int) -> list[VersionWords]:
    """Return the words of a version under each recipe, the latest first; empty if it is hidden or not embedded."""
    return [
        VersionWords(stored.recipe, of_versions(tx, stored.recipe.id, [version_id]).get(version_id), stored.is_weak)
        for stored in embeddings.of_version(tx, viewer, version_id)
    ]


def _json(words: Sequence[Word]) -> Jsonb:
    return Jsonb([[word.text, word.score] for word in words])


def _words(pairs: Sequence[tuple[str, float]]) -> tuple[Word, ...]:
    return tuple(Word(text, score) for text, score in pairs)
