"""Steps of a search by examples, with two flow runs of one search and with a dead run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltadex.asked.queries import AskedState
from deltadex.engine.examples import ChatMessage, Example
from deltadex.errors import StoreError
from deltadex.find import queries as task_searches
from deltadex.find.queries import SEARCHES, TaskDelta
from deltadex.store.database import Database, Transaction
from tests.stored import REGISTRY

EXAMPLES = (Example("2 + 2?", "4"), Example((ChatMessage("user", "3 + 3?"),), "6"))
DELTA = TaskDelta("recipe", np.array([1.0, -2.5, 0.0], dtype=np.float32), 0.2, 0.9, "")


def asked(tx: Transaction, by: str = "ada") -> int:
    return task_searches.ask(tx, REGISTRY, "acme/base", EXAMPLES, by=by)


def test_a_search_is_asked_queued_run_and_done(database: Database) -> None:
    with database.transaction() as tx:
        search_id = asked(tx)
        assert [row.id for row in SEARCHES.waiting(tx, REGISTRY)] == [search_id]
        assert SEARCHES.mark_queued(tx, search_id, flow_run_id="run")
        assert SEARCHES.waiting(tx, REGISTRY) == []
        assert task_searches.begin(tx, search_id, flow_run_id="run") == EXAMPLES
        SEARCHES.advance(tx, search_id, 0.5)
        row = task_searches.get(tx, REGISTRY, search_id)
        assert (row.state, row.progress, row.examples_count, row.delta) == (AskedState.RUNNING, 0.5, 2, None)
        assert not row.is_over
        assert task_searches.finish(tx, search_id, DELTA, seconds=3.5)
        row = task_searches.get(tx, REGISTRY, search_id)
        assert (row.is_over, row.seconds, row.asked_by) == (True, 3.5, "ada")
        assert row.delta is not None
        np.testing.assert_array_equal(row.delta.vector, DELTA.vector)
        assert row.delta.probe_agreement == 0.9
        assert not row.is_repeating


def test_halves_follow_the_answer_one_by_one_until_they_stop(database: Database) -> None:
    with database.transaction() as tx:
        search_id = asked(tx)
        task_searches.begin(tx, search_id, flow_run_id="run")
        assert task_searches.finish(tx, search_id, replace(DELTA, halves_planned=4), seconds=1)
        for done in (1, 2):
            assert task_searches.get(tx, REGISTRY, search_id).is_repeating
            task_searches.add_half(tx, search_id, done * DELTA.vector)
        row = task_searches.get(tx, REGISTRY, search_id)
        assert row.delta is not None
        np.testing.assert_array_equal(row.delta.halves, [DELTA.vector, 2 * DELTA.vector])
        assert row.is_repeating
        task_searches.stop_halves(tx, search_id)
        assert not task_searches.get(tx, REGISTRY, search_id).is_repeating


def test_what_has_ended_stays_ended_and_keeps_no_examples(database: Database) -> None:
    with database.transaction() as tx:
        done, failed = asked(tx), asked(tx)
        for search_id in (done, failed):
            task_searches.begin(tx, search_id, flow_run_id="run")
        assert task_searches.finish(tx, done, DELTA, seconds=1)
        assert SEARCHES.fail(tx, failed, reason="no base", hint="Set it.")
        for search_id in (done, failed):
            assert task_searches.begin(tx, search_id, flow_run_id="later") is None
            assert not SEARCHES.mark_queued(tx, search_id, flow_run_id="later")
            assert not task_searches.finish(tx, search_id, DELTA, seconds=2)
            assert not SEARCHES.fail(tx, search_id, reason="late", hint="")
        assert task_searches.get(tx, REGISTRY, failed).reason == "no base"
        assert tx.execute("select count(examples) from task_searches").fetchone() == (0,)


def test_a_run_that_died_may_begin_again_and_one_that_is_silent_for_long_is_ended(database: Database) -> None:
    with database.transaction() as tx:
        search_id, waiting = asked(tx), asked(tx)
        assert task_searches.begin(tx, search_id, flow_run_id="first")
        assert task_searches.begin(tx, search_id, flow_run_id="second")
        assert SEARCHES.fail_silent(tx, REGISTRY, queued_seconds=60, silent_seconds=60) == 0
        assert SEARCHES.unfinished(tx, REGISTRY, by="ada") == 2
        assert SEARCHES.fail_silent(tx, REGISTRY, queued_seconds=-60, silent_seconds=-60) == 1
        assert task_searches.get(tx, REGISTRY, search_id).state is AskedState.FAILED
        assert [row.id for row in SEARCHES.waiting(tx, REGISTRY)] == [waiting], "nobody has begun it"
        assert SEARCHES.unfinished(tx, REGISTRY, by="ada") == 1


def test_a_search_of_another_registry_or_of_none_is_not_there(database: Database) -> None:
    with database.transaction() as tx:
        search_id = asked(tx)
    with pytest.raises(StoreError, match=f"no search with id {search_id}"), database.transaction() as tx:
        task_searches.get(tx, "other", search_id)


def test_readers_may_ask_and_nothing_else(database: Database) -> None:
    with database.transaction() as tx:
        search_id = asked(tx)
    with Database(database.url, role="deltadex_reader") as reader:
        with reader.transaction() as tx:
            assert asked(tx, by="ben") > search_id
            assert task_searches.get(tx, REGISTRY, search_id).asked_by == "ada"
        with pytest.raises(StoreError, match="permission denied"), reader.transaction() as tx:
            SEARCHES.fail(tx, search_id, reason="no", hint="")
    auditor = Database(database.url, role="deltadex_auditor")
    with auditor, pytest.raises(StoreError, match="permission denied"), auditor.transaction() as tx:
        asked(tx)
