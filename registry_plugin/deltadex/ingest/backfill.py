"""The backfill: versions that were in the registry before Deltadex, or that wait behind fresh ones.

It starts by itself. People look at it, pause it, and say what goes first or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from deltadex.access import HIDDEN, Person, Right
from deltadex.ingest import queries as watchers
from deltadex.store.database import Transaction
from deltadex.types import Queue, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import shards, transitions

_STOPPED = (State.WAITING, State.UNSUPPORTED, State.SKIPPED, State.FAILED)


@dataclass(frozen=True)
class Backfill:
    """Progress of the backfill.

    Attributes
    ----------
    by_base
        Versions that wait or are under way, by declared base; empty: not read yet.
    not_embedded
        Versions that were not embedded, by the reason.
    open_shards
        Labels of the shards that wait or run.
    per_minute
        Versions of all kinds that were embedded per minute in the last ten minutes; 0 if none was.
    """

    is_paused: bool
    by_base: Mapping[str, int]
    not_embedded: Mapping[str, int]
    open_shards: tuple[str, ...]
    embedded: int
    per_minute: float

    @property
    def left(self) -> int:
        """Number of versions that wait or are under way."""
        return sum(self.by_base.values())

    @property
    def minutes_left(self) -> float | None:
        """Return an estimate by the present rate; None without one, or if the backfill is paused."""
        return self.left / self.per_minute if self.per_minute and self.left and not self.is_paused else None


def overview(tx: Transaction, viewer: Person, registry: str) -> Backfill:
    """Return how far the backfill is; models that the viewer may not see count without their names and bases."""
    by_base, reasons = Counter[str](), Counter[str]()
    for name, base, count in shards.under_way_by_base(tx, registry):
        by_base[viewer.shown_address(base) if viewer.sees(name) else HIDDEN] += count
    for row in viewer.view_each(versions.listing(tx, registry, states=_STOPPED)):
        reasons[f"{row.state}: {row.reason}".replace(row.label, "…")] += 1
    return Backfill(
        is_paused=watchers.is_paused(tx, registry),
        by_base=dict(by_base.most_common()),
        not_embedded=dict(reasons.most_common()),
        open_shards=tuple(shard.label for shard in shards.open_shards(tx, registry)),
        embedded=versions.counts(tx, registry)[State.EMBEDDED],
        per_minute=versions.embedded_per_minute(tx, registry),
    )


def pause(tx: Transaction, person: Person, registry: str) -> None:
    """Pause the backfill: shards that run begin no more versions; fresh versions are embedded as before.

    Raises
    ------
    AccessDenied
        The person is no administrator.
    """
    person.require(Right.ADMINISTER)
    watchers.set_paused(tx, registry, is_paused=True)
    shards.end_unbegun(tx, registry)


def resume(tx: Transaction, person: Person, registry: str) -> None:
    """Let a paused backfill go on.

    Raises
    ------
    AccessDenied
        The person is no administrator.
    """
    person.require(Right.ADMINISTER)
    watchers.set_paused(tx, registry, is_paused=False)


def prioritise(
    tx: Transaction, person: Person, registry: str, *, model: str, tags: Mapping[str, str], priority: int
) -> int:
    """Set the priority of versions that wait, and return how many there are. Shards that have not begun are cut again.

    Parameters
    ----------
    model
        Pattern of registered models, such as `support-*`.
    tags
        Tags that a version must have.
    priority
        Higher goes first; 0 is ordinary.

    Raises
    ------
    AccessDenied
        The person is no administrator.
    """
    person.require(Right.ADMINISTER)
    shards.end_unbegun(tx, registry)
    chosen = _waiting(tx, registry, model, tags)
    transitions.set_priority(tx, [row.id for row in chosen], priority)
    return len(chosen)


def cancel(tx: Transaction, person: Person, registry: str, *, model: str, tags: Mapping[str, str]) -> int:
    """Skip versions of the backfill that wait, and return how many there are; `deltadex retry` takes one up again.

    Raises
    ------
    AccessDenied
        The person is no administrator.
    """
    person.require(Right.ADMINISTER)
    chosen = [row for row in _waiting(tx, registry, model, tags) if row.queue is Queue.BACKFILL]
    return sum(
        transitions.mark_ended(
            tx, row.id, state=State.SKIPPED, reason=f"{person.name} took it out of the backfill", attempt=row.attempt
        )
        for row in chosen
    )


def _waiting(tx: Transaction, registry: str, model: str, tags: Mapping[str, str]) -> list[VersionRow]:
    return [
        row
        for row in versions.listing(tx, registry, states={State.DISCOVERED, State.QUEUED})
        if fnmatchcase(row.registered.ref.name, model) and tags.items() <= row.registered.tags.items()
    ]
