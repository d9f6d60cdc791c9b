"""Flow runs for versions that need an embedding."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import takewhile

from deltadex.access import Person, Right
from deltadex.app import App
from deltadex.errors import AccessDenied
from deltadex.setting_groups import ShardSettings
from deltadex.store.database import Transaction
from deltadex.types import Queue, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import shards, transitions

#: Runs of their own started per round, so that a version registered during many deaths does not wait for all of them.
_ALONE_PER_ROUND = 50

log = logging.getLogger(__name__)


def submit_waiting(app: App, *, is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Start flow runs for discovered versions; return how many versions they hold.

    A few fresh versions get runs of their own, and so do those that died in an earlier run. All others are cut into
    shards. If the process is killed between two steps, the idempotency key returns the same run in the next round.

    Parameters
    ----------
    is_stopping
        Called before each run, as a busy Prefect takes seconds to start one. The rest is left to the next round.
    """
    registry, limits = app.registry.name, app.settings.shards

    def plan(tx: Transaction) -> list[VersionRow]:
        are_few = versions.fresh_under_way(tx, registry) <= limits.fresh_alone
        alone = versions.waiting_alone(tx, registry, with_fresh=are_few, limit=_ALONE_PER_ROUND)
        cut(tx, registry, limits, with_fresh=not are_few)
        return alone

    started = 0
    for row in takewhile(lambda _: not is_stopping(), app.database.run(plan)):
        run_id = app.scheduler.submit(row)
        app.database.run(partial(transitions.mark_queued, version_id=row.id, attempt=row.attempt, flow_run_id=run_id))
        log.info("queued version=%s attempt=%d queue=%s run=%s", row.label, row.attempt, row.queue, run_id)
        started += 1
    opened = app.database.run(lambda tx: shards.open_shards(tx, registry))
    for shard in takewhile(lambda _: not is_stopping(), (one for one in opened if one.flow_run_id is None)):
        run_id = app.scheduler.submit_shard(shard)
        app.database.run(partial(shards.set_run, shard_id=shard.id, flow_run_id=run_id))
        log.info("queued shard=%d versions=%d base=%s run=%s", shard.id, shard.size, shard.base, run_id)
        started += shard.size
    return started


def cut(tx: Transaction, registry: str, limits: ShardSettings, *, with_fresh: bool) -> int:
    """Cut waiting versions into shards of one base, and return how many were taken.

    Shards whose run has not begun are filled first, so that a burst that is discovered in several rounds does not
    become as many shards.
    """
    opened = shards.open_shards(tx, registry)
    room = {queue: max(0, limits.max_open - sum(one.queue is queue for one in opened)) for queue in Queue}
    limit = limits.max_versions * (max(room.values()) + 1)
    waiting = shards.waiting_by_base(tx, registry, with_fresh=with_fresh, limit=limit)
    taken = 0
    for (queue, base), version_ids in waiting.items():
        for shard in opened:
            if (shard.queue, shard.base, shard.heartbeat_at) == (queue, base, None):
                fitting = version_ids[: max(0, limits.max_versions - shard.size)]
                taken += shards.add(tx, shard.id, fitting)
                del version_ids[: len(fitting)]
        while version_ids and room[queue]:
            shard_id = shards.create(tx, registry, base=base, queue=queue)
            taken += shards.add(tx, shard_id, version_ids[: limits.max_versions])
            del version_ids[: limits.max_versions]
            room[queue] -= 1
    return taken


def retry(tx: Transaction, person: Person, row: VersionRow) -> int:
    """Requeue a version at a person's request, and return the new attempt.

    Raises
    ------
    AccessDenied
        The person has no right to decide, or may not see the model.
    """
    person.require(Right.DECIDE)
    if not person.sees(row.registered.ref.name):
        raise AccessDenied(f"{person.name} may not see this model", hint="A person who may see it can start it again.")
    return transitions.requeue(tx, row.id, reason=f"{person.name} asked for it")
