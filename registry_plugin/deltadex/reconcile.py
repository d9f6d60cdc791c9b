"""What makes "nothing lost" true: compares the registry, our rows and the flow runs, and mends the differences."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from deltadex import reviews
from deltadex.decision_tags import write_back_decisions
from deltadex.discovery import Swept, submit_waiting, sweep
from deltadex.domain import State, VersionRow
from deltadex.limits import limits
from deltadex.notifications import notify
from deltadex.services import Services
from deltadex.store import version_changes, versions, watchers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciled:
    """What one round changed."""

    swept: Swept
    resumed: int
    revived: int
    given_up: int
    submitted: int


def reconcile(services: Services) -> Reconciled | None:
    """Run one round; None when another process is at it.

    A version is revived, with a higher attempt, when its flow run has ended without moving it on, or when it is
    running but has been silent for too long (worker and engine killed: Prefect shows such a run as running for ever).
    """
    name = services.registry.name
    with services.database.transaction() as lock:
        if not watchers.lock(lock, f"reconcile:{name}"):
            return None
        swept = sweep(services)
        under_way = services.database.run(lambda tx: versions.listing(tx, name, states={State.QUEUED, State.RUNNING}))
        waiting = services.database.run(lambda tx: versions.listing(tx, name, states={State.WAITING}))
        died = _died(services, under_way)
        revived = sum(_revive(services, row) for row in died)
        resumed = _resume(services, waiting)
        submitted = submit_waiting(services)
        services.database.run(lambda tx: reviews.follow(tx, services.settings))
        write_back_decisions(services)
        notify(services.settings, services.database)
    return Reconciled(swept, resumed, revived, len(died) - revived, submitted)


def _resume(services: Services, waiting: list[VersionRow]) -> int:
    """Start what waited for a machine like this one; return how many versions that were."""
    has = limits(services.settings)
    fitting = [row for row in waiting if row.lacking and has[row.lacking] > row.more_than]
    for row in fitting:
        services.database.run(
            partial(version_changes.requeue, version_id=row.id, reason=f"a machine with more {row.lacking} is there")
        )
        log.info("resumed version=%s lacked=%s more_than=%g", row.label, row.lacking, row.more_than)
    return len(fitting)


def _died(services: Services, under_way: list[VersionRow]) -> list[VersionRow]:
    dead_runs = services.scheduler.dead_runs([row.flow_run_id for row in under_way if row.flow_run_id])
    silent_since = datetime.now(UTC) - timedelta(seconds=services.settings.embedding.silent_seconds)
    return [row for row in under_way if row.flow_run_id in dead_runs or _is_silent(row, silent_since)]


def _is_silent(row: VersionRow, since: datetime) -> bool:
    return row.state is State.RUNNING and (row.heartbeat_at or row.state_since) < since


def _revive(services: Services, row: VersionRow) -> bool:
    """Give a version another attempt, or give it up; return whether it got one."""
    limit = services.settings.embedding.max_attempts
    if row.flow_run_id:
        services.scheduler.crash(row.flow_run_id, reason="died silently; found by Deltadex's reconciler")
    with services.database.transaction() as tx:
        if row.deaths + 1 >= limit:
            version_changes.mark_ended(
                tx,
                row.id,
                state=State.FAILED,
                reason=f"its flow run died {row.deaths + 1} times without an error",
                hint="Out of memory is the usual cause: see the worker's log, then `deltadex retry`.",
            )
            log.error("gave up version=%s deaths=%d", row.label, row.deaths + 1)
            return False
        version_changes.requeue(tx, row.id, reason=f"flow run of attempt {row.attempt} died", died=True)
    log.warning("revived version=%s after_attempt=%d", row.label, row.attempt)
    return True
