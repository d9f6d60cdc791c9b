"""Clock of the database. All stored times come from it, because the clocks of our machines may differ."""

from __future__ import annotations

from datetime import datetime

from deltadex.store.database import Transaction


def now(tx: Transaction) -> datetime:
    """Return the start time of the transaction."""
    row = tx.execute("select now()").fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    began: datetime = row[0]
    return began
