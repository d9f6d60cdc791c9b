"""Machines that embed: what each can hold, as its worker says, and the versions that wait for a larger one."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from deltadex.app import App
from deltadex.errors import Resource, Shortage
from deltadex.machine_limits import limits
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Transaction
from deltadex.types import State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions

#: Pause between two reports of a machine, and the time after which one without a report counts as gone.
REPORT_SECONDS = 30.0
_GONE_AFTER = timedelta(seconds=120)
#: Pause after which a store that refused is asked again, as rights are given and buckets made outside of any worker.
_STORE_AGAIN_AFTER = timedelta(hours=1)
#: Time after which a machine that is gone is forgotten.
_FORGOTTEN_AFTER = timedelta(days=1)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """A machine on which a worker runs.

    Attributes
    ----------
    limits
        The limit of each resource, in bytes or seconds.
    """

    name: str
    limits: Mapping[Resource, float]
    seen_at: datetime

    def fits(self, row: VersionRow) -> bool:
        """Return whether the machine has more of what a version lacked elsewhere."""
        return row.lacking is not None and self.limits.get(row.lacking, 0.0) > row.more_than


def report(tx: Transaction, settings: Settings) -> None:
    """Store what this machine can hold, and forget machines that have been gone for a day.

    Workers that share a host name and a data folder are one machine.
    """
    name = f"{socket.gethostname()}:{settings.data_dir}"
    tx.execute(
        """
        insert into machines (registry, name, limits) values (%s, %s, %s::jsonb)
        on conflict (registry, name) do update set limits = excluded.limits, seen_at = now()
        """,
        [settings.server, name, json.dumps(dict(limits(settings)))],
    )
    tx.execute("delete from machines where seen_at < now() - %s", [_FORGOTTEN_AFTER])


def online(tx: Transaction, registry: str) -> list[Machine]:
    """Return the machines whose worker runs, by name; `registry` names no workspace, as workers are for all of them."""
    found = tx.execute(
        "select name, limits, seen_at from machines where registry = %s and seen_at > now() - %s order by name",
        [registry, _GONE_AFTER],
    )
    return [
        Machine(name, {Resource(key): float(value) for key, value in values.items()}, seen_at)
        for name, values, seen_at in found
    ]


def resume(app: App) -> int:
    """Requeue the waiting versions for which a machine is large enough, and return their number.

    Where the limit that was not enough is not known, such as after a full disk, any machine may try. A version whose
    machine has gone before it could take it waits again. One that an artifact store refused is tried again once a
    worker has started since, or after an hour.
    """

    def read(tx: Transaction) -> tuple[list[VersionRow], list[Machine], datetime]:
        rows = versions.listing(tx, app.registry.name, states={State.WAITING, State.QUEUED})
        return [row for row in rows if row.lacking], online(tx, app.settings.server), clock.now(tx)

    rows, machines, now = app.database.run(read)
    waiting = [row for row in rows if row.state is State.WAITING]
    resumable = [row for row in waiting if _is_possible(row, machines) or _asks_again(row, now)]
    for row in resumable:
        app.database.run(partial(transitions.resume, row=row))
        log.info("resumed version=%s lacked=%s more_than=%g", row.label, row.lacking, row.more_than)
    for row in rows:
        if row.state is State.QUEUED and not _is_possible(row, machines):
            _wait_again(app, row)
    return len(resumable)


def _is_possible(row: VersionRow, machines: Collection[Machine]) -> bool:
    return not row.more_than or any(machine.fits(row) for machine in machines)


def _asks_again(row: VersionRow, now: datetime) -> bool:
    return row.lacking is Resource.STORE and row.state_since < now - _STORE_AGAIN_AFTER


def _wait_again(app: App, row: VersionRow) -> None:
    assert row.lacking is not None  # noqa: S101 - the caller looked
    if row.flow_run_id:
        app.scheduler.crash(row.flow_run_id, reason="no machine is large enough any more")
    message = f"The machine with more {row.lacking} has gone before it could take this version"
    shortage = Shortage(message, hint="Start a worker there.", resource=row.lacking, more_than=row.more_than)
    app.database.run(lambda tx: transitions.mark_waiting(tx, row.id, shortage, attempt=row.attempt))
    log.warning("waits again version=%s lacking=%s more_than=%g", row.label, row.lacking, row.more_than)
