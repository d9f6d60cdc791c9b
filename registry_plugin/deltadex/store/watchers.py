"""How far each registry has been read, and whether reading it works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from deltadex.store.database import Transaction


@dataclass(frozen=True)
class WatcherRow:
    """What the watchers of one registry have achieved.

    Attributes
    ----------
    watermark_ms
        Creation time of the newest version seen, in milliseconds since the epoch; 0 before the first.
    polled_at, swept_at
        When the newest versions, and all versions, were last read without an error.
    error
        Why the latest attempt failed; empty where it did not.
    """

    watermark_ms: int = 0
    polled_at: datetime | None = None
    swept_at: datetime | None = None
    error: str = ""


def read(tx: Transaction, registry: str) -> WatcherRow:
    """Return what is known; a registry that was never read gives an empty row."""
    row = tx.execute(
        "select watermark_ms, polled_at, swept_at, error from watchers where registry = %s", [registry]
    ).fetchone()
    return WatcherRow(*row) if row else WatcherRow()


def polled(tx: Transaction, registry: str, *, watermark_ms: int) -> None:
    """Note that the newest versions were read; the watermark never goes back, and an error is over."""
    tx.execute(
        """
        insert into watchers as known (registry, watermark_ms, polled_at) values (%s, %s, now())
        on conflict (registry) do update set
            watermark_ms = greatest(known.watermark_ms, excluded.watermark_ms), polled_at = now(), error = ''
        """,
        [registry, watermark_ms],
    )


def swept(tx: Transaction, registry: str) -> None:
    """Note that the whole registry was compared with our rows."""
    tx.execute(
        """
        insert into watchers (registry, swept_at) values (%s, now())
        on conflict (registry) do update set swept_at = now()
        """,
        [registry],
    )


def failed(tx: Transaction, registry: str, error: str) -> None:
    """Note why the registry can't be read."""
    tx.execute(
        """
        insert into watchers (registry, error) values (%s, %s)
        on conflict (registry) do update set error = excluded.error
        """,
        [registry, error],
    )


def lock(tx: Transaction, name: str) -> bool:
    """Take a named lock until the transaction ends, without waiting; False where somebody else holds it."""
    row = tx.execute("select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name]).fetchone()
    return row == (True,)
