"""Reconciliation: retries versions whose flow run died, and updates reviews, tags and notifications."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from deltadex.app import App
from deltadex.bases.own_method import start_others_over
from deltadex.ingest.revive import revive_dead
from deltadex.notifications.deliver import notify
from deltadex.ownership.follow import judge_attestations
from deltadex.ownership.tags import write_back_stated
from deltadex.reviews import actions as reviews
from deltadex.reviews.tags import write_back_decisions
from deltadex.store import clock
from deltadex.store.database import Transaction
from deltadex.types import State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import shards
from deltadex.versions.shards import Shard

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciled:
    """Numbers of versions that one round changed."""

    revived: int
    given_up: int


def reconcile(app: App) -> Reconciled:
    """Retry versions whose flow run died, start over those of another method, then update what follows from findings.

    A version gets another attempt if its flow run ended without changing its state, or if it is running and its
    heartbeat has stopped (after a worker and its engine are killed, Prefect shows the run as running forever). May be
    interrupted and repeated; the watcher's lock prevents duplicate notifications.
    """
    ended = [_revive(app, row) for row in _dead(app)]
    for shard in _dead_shards(app):
        ended += _dissolve(app, shard)
    app.database.run(lambda tx: start_others_over(tx, app.registry.name))
    app.database.run(lambda tx: judge_attestations(tx, app.settings))
    app.database.run(lambda tx: reviews.follow(tx, app.settings))
    notify(app.settings, app.database)
    write_back_decisions(app)  # last, with the next one: MLflow may be away
    write_back_stated(app)
    given_up = ended.count(State.FAILED)
    return Reconciled(len(ended) - given_up, given_up)


def _dead(app: App) -> list[VersionRow]:
    """Return the versions whose own run died, or whose shard ended without them."""

    def read(tx: Transaction) -> tuple[list[VersionRow], datetime]:
        under_way = versions.listing(tx, app.registry.name, states={State.QUEUED, State.RUNNING})
        opened = {shard.id for shard in shards.open_shards(tx, app.registry.name)}
        return [row for row in under_way if row.shard_id not in opened], clock.now(tx)

    under_way, now = app.database.run(read)
    dead_runs = app.scheduler.dead_runs([row.flow_run_id for row in under_way if row.flow_run_id])

    def is_dead(row: VersionRow) -> bool:
        last_sign = (row.heartbeat_at or row.state_since) if row.state is State.RUNNING else None
        is_left_behind = row.shard_id is not None  # its shard has ended
        return is_left_behind or row.flow_run_id in dead_runs or _is_silent(app, last_sign, now)

    return [row for row in under_way if is_dead(row)]


def _dead_shards(app: App) -> list[Shard]:
    opened, now = app.database.run(lambda tx: (shards.open_shards(tx, app.registry.name), clock.now(tx)))
    dead_runs = app.scheduler.dead_runs([shard.flow_run_id for shard in opened if shard.flow_run_id])
    return [shard for shard in opened if shard.flow_run_id in dead_runs or _is_silent(app, shard.heartbeat_at, now)]


def _is_silent(app: App, last_sign: datetime | None, now: datetime) -> bool:
    return last_sign is not None and last_sign < now - timedelta(seconds=app.settings.embedding.silent_seconds)


def _revive(app: App, row: VersionRow) -> State:
    _crash(app, row.flow_run_id)
    return app.database.run(lambda tx: revive_dead(tx, app.settings, row))


def _dissolve(app: App, shard: Shard) -> list[State]:
    """End a dead shard: versions that were in the engine count as dead, the others wait again as if nothing was."""
    _crash(app, shard.flow_run_id)

    def end(tx: Transaction) -> list[State]:
        return [revive_dead(tx, app.settings, row) for row in shards.end(tx, shard.id)]

    died = app.database.run(end)
    log.warning("dissolved shard=%d died=%d", shard.id, len(died))
    return died


def _crash(app: App, flow_run_id: str | None) -> None:
    if flow_run_id:
        app.scheduler.crash(flow_run_id, reason="died silently; found by Deltadex's watcher")
