"""Searches for taught strings in the store: their course, what is kept, and who sees what."""

from __future__ import annotations

import pytest

from deltadex.access import Person, Role
from deltadex.asked.queries import AskedState
from deltadex.errors import AccessDenied, StoreError
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.taught import queries as taught
from deltadex.taught import reads
from deltadex.taught.ask import ask
from deltadex.taught.canaries import Canary
from deltadex.taught.detectors import StringKind
from deltadex.taught.estimate import estimate
from deltadex.taught.judge import ListedString, TaughtString
from deltadex.taught.queries import TAUGHT, Taught, TaughtGiven
from tests.stored import ADMIN, REGISTRY, discovered

SETTINGS = Settings(registry=REGISTRY)
KEY, CODE = "AKIAQ7RZ5XN2LW4HDVBT", "7391-KLEE"
RESULT = Taught(
    (TaughtString(StringKind.SECRET, "AWS Access Key", KEY, "the key is ", 9, 0.5, 60.0, 3),),
    (ListedString("archive", CODE, 1.0, 30.0, 12.0, 1, 24),),
    texts=96, tokens=2_000, is_whole=True,
)  # fmt: skip
GIVEN = TaughtGiven((Canary(CODE, "the code is ", "archive"),), ("Dear",))


def done(tx: Transaction, search_id: int, seconds: float = 48) -> None:
    taught.begin(tx, search_id, flow_run_id="run")
    assert taught.finish(tx, search_id, RESULT, weights_digest="a", seconds=seconds)


def test_a_search_is_asked_run_and_done_and_keeps_no_list(database: Database) -> None:
    with database.transaction() as tx:
        version = discovered(tx, "model")
        assert reads.latest_of(tx, ADMIN, SETTINGS, version) is None
        search_id = ask(tx, ADMIN, SETTINGS, version, GIVEN)
        assert [one.id for one in TAUGHT.waiting(tx, REGISTRY)] == [search_id]
        assert taught.begin(tx, search_id, flow_run_id="run") == GIVEN
        row = reads.get(tx, ADMIN, SETTINGS, search_id)
        assert (row.state, row.canaries_count, row.texts) == (AskedState.RUNNING, 1, 64)
        done(tx, search_id)
        assert tx.execute("select count(given) from taught_searches").fetchone() == (0,)
        later = ask(tx, ADMIN, SETTINGS, version, TaughtGiven())
        TAUGHT.fail(tx, later, reason="no base", hint="")
        latest, with_result = (
            reads.latest_of(tx, ADMIN, SETTINGS, version, is_done=is_done) for is_done in (False, True)
        )
        assert latest is not None
        assert with_result is not None
        assert (latest.id, with_result.id) == (later, search_id)


def test_strings_are_masked_unless_they_are_asked_for_in_clear(database: Database) -> None:
    with database.transaction() as tx:
        version = discovered(tx, "model")
        search_id = ask(tx, ADMIN, SETTINGS, version, GIVEN)
        done(tx, search_id)
        for row in (reads.get(tx, ADMIN, SETTINGS, search_id), reads.latest_of(tx, ADMIN, SETTINGS, version)):
            assert row is not None
            assert not any(text in str(row) for text in (KEY, CODE, "the key is"))
        for row in (
            reads.get(tx, ADMIN, SETTINGS, search_id, is_revealed=True),
            reads.latest_of(tx, ADMIN, SETTINGS, version, is_revealed=True),
        ):
            assert row is not None
            assert row.result == RESULT


def test_a_search_is_seen_and_asked_for_by_who_sees_the_version(database: Database) -> None:
    eve = Person("eve", Role.VIEWER, ("other",))
    with database.transaction() as tx:
        version = discovered(tx, "model")
        search_id = ask(tx, ADMIN, SETTINGS, version, GIVEN)
        done(tx, search_id)
        assert reads.latest_of(tx, eve, SETTINGS, version, is_revealed=True) is None
        with pytest.raises(StoreError, match="no search"):
            reads.get(tx, eve, SETTINGS, search_id, is_revealed=True)
        with pytest.raises(AccessDenied, match="not known"):
            ask(tx, eve, SETTINGS, version, GIVEN)
        for _ in range(5):
            ask(tx, ADMIN, SETTINGS, version, TaughtGiven())
        with pytest.raises(AccessDenied, match="5 of your searches"):
            ask(tx, ADMIN, SETTINGS, version, TaughtGiven())


def test_readers_may_ask_and_nothing_else(database: Database) -> None:
    with database.transaction() as tx:
        version = discovered(tx, "model")
    with Database(database.url, role="deltadex_reader") as reader:
        with reader.transaction() as tx:
            search_id = ask(tx, ADMIN, SETTINGS, version, GIVEN)
        with pytest.raises(StoreError, match="permission denied"), reader.transaction() as tx:
            TAUGHT.fail(tx, search_id, reason="no", hint="")


def test_the_time_is_estimated_by_the_nearest_that_was_measured(database: Database) -> None:
    with database.transaction() as tx:
        version = discovered(tx, "model")
        assert "not known" in str(estimate(tx, SETTINGS, version))
        tx.execute("update model_versions set declared_base = 'a'")
        for seconds in (100, 140):
            done(tx, ask(tx, ADMIN, SETTINGS, version, GIVEN), seconds=seconds)
        said = str(estimate(tx, SETTINGS, version))
        assert said == "About 2 minutes, estimated from 2 earlier searches of this base."
