"""Progress of the watchers of each registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from deltadex.settings import workspace_of
from deltadex.store.database import Transaction


@dataclass(frozen=True)
class WatcherRow:
    """Progress of the watchers of one registry.

    Attributes
    ----------
    watermark_ms
        Creation time of the newest version seen, in milliseconds since the epoch; 0 before the first.
    polled_at, swept_at
        Times of the last successful poll and of the last successful sweep.
    error
        Reason for the latest failure; empty if the latest poll succeeded.
    """

    watermark_ms: int = 0
    polled_at: datetime | None = None
    swept_at: datetime | None = None
    error: str = ""


def read(tx: Transaction, registry: str) -> WatcherRow:
    """Return the progress; an empty row for a registry that was never read."""
    row = tx.execute(
        "select watermark_ms, polled_at, swept_at, error from watchers where registry = %s", [registry]
    ).fetchone()
    return WatcherRow(*row) if row else WatcherRow()


def workspaces(tx: Transaction, server: str) -> tuple[str, ...]:
    """Return the workspaces of a server that were ever watched, by name; only the default one where it has none."""
    found = tx.execute(
        "select registry from watchers where registry = %s or starts_with(registry, %s || '/')", [server, server]
    )
    return tuple(sorted(workspace_of(name) for (name,) in found))


def store_id(tx: Transaction, registry: str) -> str:
    """Return the id that marks this registry as ours; made at the first call."""
    tx.execute("insert into watchers (registry) values (%s) on conflict do nothing", [registry])
    row = tx.execute("select store_id from watchers where registry = %s", [registry]).fetchone()
    assert row is not None  # noqa: S101 - just inserted
    return str(row[0])


def record_poll(tx: Transaction, registry: str, *, watermark_ms: int) -> None:
    """Record a successful poll and clear the error; the watermark never goes back, nor beyond the present.

    Versions may carry times of the future: a watermark there would hide all others until that time.
    """
    tx.execute(
        """
        insert into watchers as known (registry, watermark_ms, polled_at)
        values (%s, least(%s, (extract(epoch from now()) * 1000)::bigint), now())
        on conflict (registry) do update set
            watermark_ms = greatest(known.watermark_ms, excluded.watermark_ms), polled_at = now(), error = ''
        """,
        [registry, watermark_ms],
    )


def record_sweep(tx: Transaction, registry: str) -> None:
    """Record a successful sweep."""
    tx.execute(
        """
        insert into watchers (registry, swept_at) values (%s, now())
        on conflict (registry) do update set swept_at = now()
        """,
        [registry],
    )


def failed(tx: Transaction, registry: str, error: str) -> None:
    """Record the reason for a failure."""
    tx.execute(
        """
        insert into watchers (registry, error) values (%s, %s)
        on conflict (registry) do update set error = excluded.error
        """,
        [registry, error],
    )


def is_paused(tx: Transaction, registry: str) -> bool:
    """Return whether the backfill is paused."""
    row = tx.execute("select is_paused from watchers where registry = %s", [registry]).fetchone()
    return bool(row and row[0])


def set_paused(tx: Transaction, registry: str, *, is_paused: bool) -> None:
    """Pause the backfill, or let it go on."""
    tx.execute(
        """
        insert into watchers (registry, is_paused) values (%s, %s)
        on conflict (registry) do update set is_paused = excluded.is_paused
        """,
        [registry, is_paused],
    )
