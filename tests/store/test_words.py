"""Words lie beside the embedding that says them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltadex.domain import Word, Words
from deltadex.store import embeddings, words
from deltadex.store.database import Database, Transaction
from tests.store.examples import discovered, embedding

SAID = Words((Word("SELECT", 4.25), Word("日本", 3.0)), (Word("The", -2.5),))
NOTHING = Words(note="no head")


def say(tx: Transaction, version_id: int, said: Words | None, *, weights: str = "w1") -> int:
    made = replace(embedding(np.array([1.0, 0.0]), weights=weights), words=said)
    recipe_id = embeddings.save(tx, version_id, made, base_name="base", artifact_uri="runs:/a", is_weak=False)
    words.save(tx, version_id, recipe_id, made)
    return recipe_id


def test_what_was_said_is_read_back_with_its_scores(database: Database) -> None:
    with database.transaction() as tx:
        first, second, silent = (discovered(tx, name) for name in ("one", "two", "three"))
        recipe_id = say(tx, first, SAID)
        say(tx, second, NOTHING)
        say(tx, silent, None)
        assert words.of_versions(tx, recipe_id, [first, second, silent]) == {first: SAID, second: NOTHING}


def test_words_that_could_not_be_had_before_are_filled_in_and_others_stay(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        for said in (NOTHING, SAID, Words((Word("other", 1.0),)), NOTHING):
            recipe_id = say(tx, version_id, said)
        assert words.of_versions(tx, recipe_id, [version_id]) == {version_id: SAID}


def test_other_weights_have_other_words_and_superseded_ones_go_with_their_embedding(database: Database) -> None:
    later = Words((Word("whereas", 5.0),))
    with database.transaction() as tx:
        version_id = discovered(tx)
        say(tx, version_id, SAID)
        recipe_id = say(tx, version_id, later, weights="w2")
        assert words.of_versions(tx, recipe_id, [version_id]) == {version_id: later}
        tx.execute("delete from embeddings where weights_digest = 'w1'")
        assert tx.execute("select count(*) from words").fetchone() == (1,)
