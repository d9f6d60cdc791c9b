from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from psycopg.sql import SQL

from deltadex.errors import Resource, Shortage, StoreError
from deltadex.store.database import Database
from deltadex.types import DEMO_REGISTERED_TAG, Queue, State
from deltadex.versions import queries as versions
from deltadex.versions import shards, transitions
from tests.stored import HOUR_MS, REGISTRY, discovered, embedded, registered

FINISHED = (State.EMBEDDED, State.UNSUPPORTED, State.FAILED)


def test_a_discovered_version_comes_back_as_the_registry_told_it(database: Database) -> None:
    told = registered(run_id="abc", description="für ☂", tags={"team": "a b", "k": "x"}, aliases=("best", "prod"))
    with database.transaction() as tx:
        [version_id] = transitions.discover(tx, [told], fresh_since_ms=0)
        row = versions.get(tx, version_id)
    assert row.registered == told
    assert (row.state, row.attempt, row.queue) == (State.DISCOVERED, 1, Queue.FRESH)
    assert row.state_since == row.discovered_at
    assert row.label == "support/1"


def test_versions_are_discovered_once_however_often_they_are_seen(database: Database) -> None:
    batch = [registered(version=number) for number in (2, 1, 2)]
    with database.transaction() as tx:
        assert len(transitions.discover(tx, batch, fresh_since_ms=0)) == 2
    with database.transaction() as tx:
        assert transitions.discover(tx, batch, fresh_since_ms=0) == []
        assert len(versions.listing(tx, REGISTRY)) == 2
        assert transitions.discover(tx, [], fresh_since_ms=0) == []


def test_a_number_that_was_used_again_is_another_version(database: Database) -> None:
    with database.transaction() as tx:
        first = discovered(tx, created_ms=1)
        again = discovered(tx, created_ms=2)
        elsewhere = discovered(tx, created_ms=1, registry="other")
    assert len({first, again, elsewhere}) == 3


def test_what_people_edit_follows_the_registry_and_nothing_else_is_touched(database: Database) -> None:
    with database.transaction() as tx:
        version_id = embedded(tx, "support", np.ones(3))
        before = versions.get(tx, version_id)
    changed = registered(description="new", tags={"a": "b"}, aliases=("prod",), run_id="r", source="runs:/moved")
    with database.transaction() as tx:
        assert transitions.discover(tx, [changed], fresh_since_ms=0) == []
        after = versions.get(tx, version_id)
    assert after.registered == changed
    assert (after.state, after.state_since, after.attempt) == (State.EMBEDDED, before.state_since, 1)


def test_seeing_an_unchanged_version_writes_nothing(database: Database) -> None:
    told = registered(tags={"a": "1", "b": "2"}, aliases=("x", "y"))
    with database.transaction() as tx:
        [version_id] = transitions.discover(tx, [told], fresh_since_ms=0)
    place = "select ctid::text from model_versions where id = %s"
    with database.transaction() as tx:
        before = tx.execute(place, [version_id]).fetchone()
        transitions.discover(tx, [registered(tags={"b": "2", "a": "1"}, aliases=("y", "x"))], fresh_since_ms=0)
        assert tx.execute(place, [version_id]).fetchone() == before


def test_a_version_taken_for_deleted_starts_over_when_it_is_there_again(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.mark_ended(tx, version_id, state=State.DELETED, reason="gone")
    with database.transaction() as tx:
        assert transitions.discover(tx, [registered()], fresh_since_ms=0) == [version_id]
        row = versions.get(tx, version_id)
    assert (row.state, row.attempt) == (State.DISCOVERED, 2)


def test_text_that_postgres_cannot_hold_does_not_stop_a_batch(database: Database) -> None:
    odd = registered(description="a\0b\ud800", tags={"\0": "\0"})
    with database.transaction() as tx:
        assert len(transitions.discover(tx, [odd, registered(version=2)], fresh_since_ms=0)) == 2
        assert transitions.discover(tx, [odd], fresh_since_ms=0) == []
        assert versions.find(tx, REGISTRY, "support", 1)[0].registered.description == "a\ufffdb?"


def test_unknown_gives_those_without_a_row_in_order(database: Database) -> None:
    with database.transaction() as tx:
        discovered(tx, version=2)
        listed = [registered(version=number) for number in (3, 2, 1)]
        assert versions.unknown(tx, listed) == [listed[0], listed[2]]
        assert versions.unknown(tx, []) == []


def test_a_rename_is_found_and_followed(database: Database) -> None:
    now = registered("support-v2", source="runs:/abc/support-1")
    with database.transaction() as tx:
        version_id = discovered(tx)
        discovered(tx, "other")
        [candidate] = versions.renamed(tx, now)
        assert candidate.id == version_id
        assert transitions.rename(tx, version_id, "support-v2")
        assert versions.renamed(tx, now) == []
        assert versions.get(tx, version_id).registered == now


def test_a_name_that_is_taken_is_not_given_twice(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        discovered(tx, "taken")
        assert not transitions.rename(tx, version_id, "taken")


def test_a_missing_row_is_a_stated_error(database: Database) -> None:
    with database.transaction() as tx, pytest.raises(StoreError, match="id 77"):
        versions.get(tx, 77)
    with database.transaction() as tx, pytest.raises(StoreError, match="id 77"):
        transitions.requeue(tx, 77, reason="")


def test_find_gives_the_newest_first_and_deleted_ones_last(database: Database) -> None:
    with database.transaction() as tx:
        old, gone, new = (discovered(tx, version=number) for number in (1, 3, 2))
        again = discovered(tx, version=2, created_ms=9 * HOUR_MS)
        discovered(tx, "other")
        transitions.mark_ended(tx, gone, state=State.DELETED, reason="")
        assert [row.id for row in versions.find(tx, REGISTRY, "support")] == [again, new, old, gone]
        assert [row.id for row in versions.find(tx, REGISTRY, "support", 2)] == [again, new]
        assert versions.find(tx, "elsewhere", "support") == []


def test_listing_takes_states(database: Database) -> None:
    with database.transaction() as tx:
        first, second = discovered(tx), discovered(tx, version=2)
        transitions.mark_running(tx, first, attempt=1, flow_run_id="f")
        assert [row.id for row in versions.listing(tx, REGISTRY, states={State.RUNNING})] == [first]
        assert [row.id for row in versions.listing(tx, REGISTRY)] == [second, first]
        assert versions.listing(tx, REGISTRY, states=()) == []


def test_fresh_versions_wait_before_the_backfill_and_old_ones_before_new_ones(database: Database) -> None:
    with database.transaction() as tx:
        numbers = (4, 3, 2, 1)
        transitions.discover(tx, [registered(version=number) for number in numbers], fresh_since_ms=3 * HOUR_MS)
        ids = {row.registered.ref.version: row.id for row in versions.listing(tx, REGISTRY)}

        def waiting(*, with_fresh: bool) -> list[tuple[Queue, list[int]]]:
            found = shards.waiting_by_base(tx, REGISTRY, with_fresh=with_fresh, limit=3)
            return [(queue, version_ids) for (queue, _), version_ids in found.items()]

        assert waiting(with_fresh=True) == [(Queue.FRESH, [ids[3], ids[4]]), (Queue.BACKFILL, [ids[1]])]
        assert waiting(with_fresh=False) == [(Queue.BACKFILL, [ids[1], ids[2]])]
        assert [row.id for row in versions.waiting_alone(tx, REGISTRY, with_fresh=True, limit=9)] == [ids[3], ids[4]]
        assert versions.waiting_alone(tx, REGISTRY, with_fresh=False, limit=9) == []


def test_a_version_that_died_has_a_run_of_its_own(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.requeue(tx, version_id, reason="died", died=True)
        assert shards.waiting_by_base(tx, REGISTRY, with_fresh=True, limit=9) == {}
        [alone] = versions.waiting_alone(tx, REGISTRY, with_fresh=False, limit=9)
        assert alone.id == version_id


def test_the_way_of_a_version_is_its_history(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        assert transitions.mark_queued(tx, version_id, attempt=1, flow_run_id="f")
        assert transitions.mark_queued(tx, version_id, attempt=1, flow_run_id="f")
        assert transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        assert transitions.heartbeat(tx, version_id, attempt=1)
        assert transitions.mark_ended(tx, version_id, state=State.FAILED, reason="truncated", hint="log it again")
        row = versions.get(tx, version_id)
        assert transitions.requeue(tx, version_id, reason="retried") == 2
        steps = [(step.state, step.attempt, step.reason) for step in versions.history(tx, version_id)]
    assert (row.reason, row.hint, row.flow_run_id) == ("truncated", "log it again", "f")
    assert steps == [
        (State.DISCOVERED, 1, ""),
        (State.QUEUED, 1, ""),
        (State.RUNNING, 1, ""),
        (State.FAILED, 1, "truncated"),
        (State.DISCOVERED, 2, "retried"),
    ]


def test_a_run_that_starts_before_its_queueing_was_noted_stays_running(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        assert transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        assert not transitions.mark_queued(tx, version_id, attempt=1, flow_run_id="f")
        assert transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        assert versions.get(tx, version_id).state is State.RUNNING


def test_a_superseded_attempt_changes_nothing(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        transitions.mark_running(tx, version_id, attempt=1, flow_run_id="old")
        transitions.requeue(tx, version_id, reason="silent")
        before = versions.get(tx, version_id)
        assert not transitions.mark_queued(tx, version_id, attempt=1, flow_run_id="old")
        assert not transitions.mark_running(tx, version_id, attempt=1, flow_run_id="old")
        assert not transitions.mark_ended(tx, version_id, state=State.FAILED, reason="late", attempt=1)
        assert not transitions.heartbeat(tx, version_id, attempt=1)
        assert versions.get(tx, version_id) == before
        assert (before.flow_run_id, before.heartbeat_at) == (None, None)


def test_deaths_in_a_row_are_counted_and_forgotten_by_any_other_start(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        for deaths in (1, 2):
            transitions.requeue(tx, version_id, reason="died", died=True)
            assert versions.get(tx, version_id).deaths == deaths
        transitions.requeue(tx, version_id, reason="a person asked for it")
        assert versions.get(tx, version_id).deaths == 0


def test_a_version_that_is_not_under_way_does_not_begin_to_wait(database: Database) -> None:
    shortage = Shortage("slow", resource=Resource.TIME, more_than=1800)
    with database.transaction() as tx:
        version_id = discovered(tx)
        assert not transitions.mark_waiting(tx, version_id, shortage, attempt=2)
        assert transitions.mark_waiting(tx, version_id, shortage, attempt=1)
        row = versions.get(tx, version_id)
        assert (row.state, row.lacking, row.more_than) == (State.WAITING, Resource.TIME, 1800)
        assert not transitions.mark_waiting(tx, version_id, shortage, attempt=1)
        assert not transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")


@pytest.mark.parametrize("state", FINISHED)
def test_a_version_that_ended_can_only_be_deleted_or_requeued(database: Database, state: State) -> None:
    with database.transaction() as tx:
        if state is State.EMBEDDED:
            version_id = embedded(tx, "support", np.ones(3))
        else:
            version_id = discovered(tx)
            assert transitions.mark_ended(tx, version_id, state=state, reason="why")
        assert not transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        assert not transitions.mark_ended(tx, version_id, state=State.FAILED, reason="late")
        assert transitions.mark_ended(tx, version_id, state=State.DELETED, reason="gone")
        assert not transitions.mark_ended(tx, version_id, state=State.DELETED, reason="again")
        assert not transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")


def test_counts_name_every_state(database: Database) -> None:
    with database.transaction() as tx:
        discovered(tx)
        transitions.mark_running(tx, discovered(tx, version=2), attempt=1, flow_run_id="f")
        counts = versions.counts(tx, REGISTRY)
    assert set(counts) == set(State)
    assert {state: count for state, count in counts.items() if count} == {State.DISCOVERED: 1, State.RUNNING: 1}


def test_a_state_lasts_since_it_was_entered(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
    with database.transaction() as tx:
        transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        running = versions.get(tx, version_id)
    with database.transaction() as tx:
        transitions.heartbeat(tx, version_id, attempt=1)
        later = versions.get(tx, version_id)
    assert running.state_since > running.discovered_at
    assert later.state_since == running.state_since
    assert later.heartbeat_at > running.heartbeat_at


STATED = ("", "2026-10-01T08:30:00+00:00", "2026-10-01", "2026-02-30T00:00:00+00:00", "1816-01-01T00:00:00+00:00",
          "0000-01-01T00:00:00+00:00", "2026-11-30T00:00:00+00:00", "2026-10-01T08:30:60+00:00", "infinity", "now",
          "2026-10-01T08:30:00+00:00\n", "2026-10-01T24:00:00+00:00", "2026-11-29T00:00:00+00:00")  # fmt: skip


@pytest.mark.parametrize("stated", STATED)
def test_postgres_and_python_agree_on_when_a_version_was_registered(database: Database, stated: str) -> None:
    created_ms = int(datetime(2026, 11, 29, tzinfo=UTC).timestamp() * 1000)
    with database.transaction() as tx:
        version_id = discovered(tx, created_ms=created_ms, tags={DEMO_REGISTERED_TAG: stated})
        found = tx.execute(SQL("select {} from model_versions").format(versions.REGISTERED_MS)).fetchone()
        row = versions.get(tx, version_id)
    assert found == (int(row.registered_at.timestamp() * 1000),)
