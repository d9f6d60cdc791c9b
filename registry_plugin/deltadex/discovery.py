"""From the registry to rows: polls, full sweeps, and the flow runs for what waits.

Polling is the truth; all of it may be repeated, interrupted or done by several processes at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile

from deltadex.domain import RegisteredVersion, State, VersionRow
from deltadex.errors import AccessDenied
from deltadex.governance.access import Person, Right
from deltadex.services import Services
from deltadex.store import version_changes, versions, watchers
from deltadex.store.database import Transaction

_BATCH = 100
#: Per round, so that a version registered during a long backfill does not wait for all of it.
_SUBMITTED_PER_ROUND = 50

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """What a full comparison with the registry changed."""

    found: int
    deleted: int


def poll(services: Services) -> int:
    """Read the registry's newest versions, back to the watermark minus an overlap; return how many were new."""
    registry, settings = services.registry, services.settings.watch
    watermark_ms = services.database.run(lambda tx: watchers.read(tx, registry.name)).watermark_ms
    horizon_ms = watermark_ms - int(settings.overlap_seconds * 1000)
    found = 0
    for batch in _batches(takewhile(lambda version: version.ref.created_ms >= horizon_ms, registry.newest_first())):
        found += _take_in(services, batch)
        watermark_ms = max(watermark_ms, *(version.ref.created_ms for version in batch))
    services.database.run(lambda tx: watchers.polled(tx, registry.name, watermark_ms=watermark_ms))
    return found


def sweep(services: Services) -> Swept:
    """Compare all of the registry with all of our rows: missed versions, renames, deletions, changed tags."""
    registry, database = services.registry, services.database
    listed = list(registry.newest_first())
    found = 0
    for batch in _batches(listed):
        found += _take_in(services, batch)
    listed = _with_aliases(services, listed)
    database.run(lambda tx: version_changes.discover(tx, listed, fresh_since_ms=0))
    rows = database.run(lambda tx: versions.listing(tx, registry.name))
    listed_refs = {version.ref for version in listed}
    gone = [row for row in rows if row.registered.ref not in listed_refs and _is_gone(services, row.registered)]
    for row in gone:
        database.run(
            partial(
                version_changes.mark_ended, version_id=row.id, state=State.DELETED, reason="no longer in the registry"
            )
        )
    database.run(lambda tx: watchers.swept(tx, registry.name))
    if found or gone:
        log.info("swept found=%d deleted=%d", found, len(gone))
    return Swept(found, len(gone))


def submit_waiting(services: Services) -> int:
    """Start a flow run for each version that waits, fresh ones first; return how many were started.

    Killed between the two steps, the next round gets the same run again by its idempotency key.
    """
    waiting = services.database.run(lambda tx: versions.waiting(tx, services.registry.name, limit=_SUBMITTED_PER_ROUND))
    for row in waiting:
        run_id = services.scheduler.submit(row)
        services.database.run(
            partial(version_changes.mark_queued, version_id=row.id, attempt=row.attempt, flow_run_id=run_id)
        )
        log.info("queued version=%s attempt=%d queue=%s run=%s", row.label, row.attempt, row.queue, run_id)
    return len(waiting)


def _take_in(services: Services, batch: Collection[RegisteredVersion]) -> int:
    """Write the versions that we don't know yet; return how many there were."""
    unknown = services.database.run(lambda tx: versions.unknown(tx, batch))
    new = [version for version in unknown if not _follow_rename(services, version)]
    if not new:
        return 0
    fresh_since_ms = int((time.time() - services.settings.watch.fresh_seconds) * 1000)
    new = _with_aliases(services, new)
    return len(services.database.run(lambda tx: version_changes.discover(tx, new, fresh_since_ms=fresh_since_ms)))


def _follow_rename(services: Services, version: RegisteredVersion) -> bool:
    """Whether this is a version that we know under a name that is gone; its row then takes the new name."""
    candidates = services.database.run(lambda tx: versions.renamed(tx, version))
    for candidate in candidates:
        if _is_gone(services, candidate.registered):
            services.database.run(partial(version_changes.rename, version_id=candidate.id, name=version.ref.name))
            log.info("renamed from=%s to=%s", candidate.label, version.ref.label)
            return True
    return False


def _is_gone(services: Services, version: RegisteredVersion) -> bool:
    """Ask for the one version: a page that shifted under a sweep must never delete anything."""
    current = services.registry.read(version.ref.name, version.ref.version)
    return current is None or current.ref != version.ref


def _with_aliases(services: Services, listed: Iterable[RegisteredVersion]) -> list[RegisteredVersion]:
    listed = list(listed)
    aliases = {name: services.registry.aliases(name) for name in {version.ref.name for version in listed}}
    return [replace(version, aliases=aliases[version.ref.name].get(version.ref.version, ())) for version in listed]


def _batches(listed: Iterable[RegisteredVersion]) -> Iterator[list[RegisteredVersion]]:
    iterator = iter(listed)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def retry(tx: Transaction, person: Person, row: VersionRow) -> int:
    """Start a version over because a person asks for it, and return the new attempt.

    Raises
    ------
    AccessDenied
        The person decides nothing, or may not see the model.
    """
    person.require(Right.DECIDE)
    if not person.sees(row.registered.ref.name):
        raise AccessDenied(f"{person.name} may not see this model", hint="Somebody who may starts it again.")
    return version_changes.requeue(tx, row.id, reason=f"{person.name} asked for it")
