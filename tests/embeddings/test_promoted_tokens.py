"""Stored words of embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.store.database import Database, Transaction
from deltadex.types import Word, Words
from tests.stored import discovered, embedding

WORDS = Words((Word("SELECT", 4.25), Word("日本", 3.0)), (Word("The", -2.5),))
NO_WORDS = Words(note="no head")


def save(tx: Transaction, version_id: int, words: Words | None, *, weights: str = "w1") -> int:
    made = replace(embedding(np.array([1.0, 0.0]), weights=weights), words=words)
    recipe_id = embeddings.save(tx, version_id, made, base_name="base", artifact_uri="runs:/a", is_weak=False)
    promoted_tokens.save(tx, version_id, recipe_id, made)
    return recipe_id


def test_words_are_read_back_with_their_scores(database: Database) -> None:
    with database.transaction() as tx:
        first, second, silent = (discovered(tx, name) for name in ("one", "two", "three"))
        recipe_id = save(tx, first, WORDS)
        save(tx, second, NO_WORDS)
        save(tx, silent, None)
        assert promoted_tokens.of_versions(tx, recipe_id, [first, second, silent]) == {first: WORDS, second: NO_WORDS}


def test_only_words_that_could_not_be_computed_are_replaced(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        for words in (NO_WORDS, WORDS, Words((Word("other", 1.0),)), NO_WORDS):
            recipe_id = save(tx, version_id, words)
        assert promoted_tokens.of_versions(tx, recipe_id, [version_id]) == {version_id: WORDS}


def test_other_weights_have_other_words_and_superseded_ones_go_with_their_embedding(database: Database) -> None:
    later = Words((Word("whereas", 5.0),))
    with database.transaction() as tx:
        version_id = discovered(tx)
        save(tx, version_id, WORDS)
        recipe_id = save(tx, version_id, later, weights="w2")
        assert promoted_tokens.of_versions(tx, recipe_id, [version_id]) == {version_id: later}
        tx.execute("delete from embeddings where weights_digest = 'w1'")
        assert tx.execute("select count(*) from words").fetchone() == (1,)
