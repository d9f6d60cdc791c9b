"""Queries of people's visits to the dashboard."""

from __future__ import annotations

from datetime import datetime

from deltadex.access import Person
from deltadex.store.database import Transaction


def note_visit(tx: Transaction, person: Person, registry: str) -> datetime | None:
    """Record a visit, and return when the visit before it ended; None for the first one.

    Visits with less than half an hour between them are one.
    """
    row = tx.execute("select note_visit(%s, %s)", [registry, person.identity or person.name]).fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    before: datetime | None = row[0]
    return before
