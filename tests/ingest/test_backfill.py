"""The backfill: its overview, pause, priorities and cancellation."""

from __future__ import annotations

import pytest

from deltadex.access import HIDDEN, Person, Role
from deltadex.errors import AccessDenied, DeltadexError, EmbeddingError, RegistryError
from deltadex.ingest import backfill
from deltadex.ingest.revive import try_again
from deltadex.ingest.submit import cut
from deltadex.setting_groups import ShardSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Queue, State
from deltadex.versions import queries as versions
from deltadex.versions import shards, transitions
from tests.stored import ADMIN, HOUR_MS, REGISTRY, embedded, registered

LIMITS = ShardSettings(max_versions=3, max_open=2)
REVIEWER = Person("rui", Role.REVIEWER)


def wait(tx: Transaction, *names: str, **values: object) -> list[int]:
    """Return the ids of versions that were in the registry before Deltadex."""
    new = [registered(name, created_ms=number, **values) for number, name in enumerate(names, start=1)]
    return transitions.discover(tx, new, fresh_since_ms=HOUR_MS)


def sizes(tx: Transaction) -> list[int]:
    return [shard.size for shard in shards.open_shards(tx, REGISTRY)]


def test_it_is_cut_into_a_limited_number_of_shards(database: Database) -> None:
    with database.transaction() as tx:
        wait(tx, *"abcdefgh")
        assert cut(tx, REGISTRY, LIMITS, with_fresh=False) == 6
        assert sizes(tx) == [3, 3]
        assert cut(tx, REGISTRY, LIMITS, with_fresh=False) == 0


def test_a_pause_stops_all_but_fresh_versions(database: Database) -> None:
    with database.transaction() as tx:
        wait(tx, "old", "older")
        cut(tx, REGISTRY, LIMITS, with_fresh=False)
        [running] = shards.open_shards(tx, REGISTRY)
        shards.set_run(tx, running.id, "f")
        shards.begin(tx, running.id, flow_run_id="f")
        wait(tx, "third")
        cut(tx, REGISTRY, LIMITS, with_fresh=False)
        backfill.pause(tx, ADMIN, REGISTRY)
        assert [shard.id for shard in shards.open_shards(tx, REGISTRY)] == [running.id], "the other had not begun"
        assert shards.heartbeat(tx, running.id, flow_run_id="f") is False
        transitions.discover(tx, [registered("new", created_ms=2 * HOUR_MS)], fresh_since_ms=HOUR_MS)
        assert cut(tx, REGISTRY, LIMITS, with_fresh=True) == 1
        assert backfill.overview(tx, ADMIN, REGISTRY).is_paused
        backfill.resume(tx, ADMIN, REGISTRY)
        assert shards.heartbeat(tx, running.id, flow_run_id="f") is True


def test_priorities_and_tags_decide_what_goes_first(database: Database) -> None:
    with database.transaction() as tx:
        wait(tx, "a", "b", "c")
        wait(tx, "support-1", tags={"domain": "law"})
        wait(tx, "support-2")
        cut(tx, REGISTRY, LIMITS, with_fresh=False)
        count = backfill.prioritise(tx, ADMIN, REGISTRY, model="support-*", tags={"domain": "law"}, priority=5)
        assert count == 1
        [(_, waiting)] = shards.waiting_by_base(tx, REGISTRY, with_fresh=False, limit=2).items()
        assert [versions.get(tx, each).label for each in waiting] == ["support-1/1", "a/1"]


def test_what_is_cancelled_is_skipped_with_the_reason(database: Database) -> None:
    with database.transaction() as tx:
        wait(tx, "keep", "drop")
        assert backfill.cancel(tx, ADMIN, REGISTRY, model="drop", tags={}) == 1
        [row] = versions.find(tx, REGISTRY, "drop")
        assert (row.state, row.reason) == (State.SKIPPED, "ada took it out of the backfill")
        [(_, waiting)] = shards.waiting_by_base(tx, REGISTRY, with_fresh=False, limit=9).items()
        assert len(waiting) == 1


def test_only_administrators_steer_it(database: Database) -> None:
    with database.transaction() as tx:
        for steer in (backfill.pause, backfill.resume):
            with pytest.raises(AccessDenied):
                steer(tx, REVIEWER, REGISTRY)
        with pytest.raises(AccessDenied):
            backfill.cancel(tx, REVIEWER, REGISTRY, model="*", tags={})
        with pytest.raises(AccessDenied):
            backfill.prioritise(tx, REVIEWER, REGISTRY, model="*", tags={}, priority=1)


def test_the_overview_counts_what_is_left_and_why_others_ended(database: Database) -> None:
    with database.transaction() as tx:
        wait(tx, "a", "b", tags={"deltadex.base": "acme/base"})
        [hidden] = wait(tx, "secret", tags={"deltadex.base": "acme/secret-base"})
        [lost] = wait(tx, "lost")
        transitions.mark_ended(tx, lost, state=State.FAILED, reason="lost/1 has no weights")
        embedded(tx, "done", [1.0, 2.0])
        seen = backfill.overview(tx, Person("eve", Role.REVIEWER, models=("a", "b", "lost")), REGISTRY)
    assert hidden
    assert seen.by_base == {"acme/base": 2, HIDDEN: 1}
    assert seen.not_embedded == {"failed: … has no weights": 1}
    assert (seen.left, seen.embedded) == (3, 1)
    assert seen.per_minute > 0
    assert seen.minutes_left == pytest.approx(3 / seen.per_minute)


def test_a_shard_of_fresh_versions_goes_on_while_the_backfill_is_paused(database: Database) -> None:
    with database.transaction() as tx:
        shard_id = shards.create(tx, REGISTRY, base=None, queue=Queue.FRESH)
        shards.begin(tx, shard_id, flow_run_id="f")
        backfill.pause(tx, ADMIN, REGISTRY)
        assert shards.heartbeat(tx, shard_id, flow_run_id="f") is True


@pytest.mark.parametrize(
    ("error", "goes_alone"),
    [
        (RegistryError("MLflow cannot be reached", hint="Is it up?", retryable=True), False),
        (EmbeddingError("The embedding process died", hint="Memory may have run out", retryable=True), True),
    ],
)
def test_only_a_version_that_the_engine_died_with_goes_alone(
    database: Database, error: DeltadexError, goes_alone: bool
) -> None:
    with database.transaction() as tx:
        [version_id] = wait(tx, "a")
        cut(tx, REGISTRY, LIMITS, with_fresh=False)
        assert try_again(tx, Settings(), versions.get(tx, version_id), error) is State.DISCOVERED
        row = versions.get(tx, version_id)
        assert (row.attempt, row.deaths, row.shard_id) == (2, 1, None)
        assert error.message in row.reason
        alone = [one.id for one in versions.waiting_alone(tx, REGISTRY, with_fresh=False, limit=9)]
        assert alone == ([version_id] if goes_alone else [])
        assert cut(tx, REGISTRY, LIMITS, with_fresh=False) == int(not goes_alone)
