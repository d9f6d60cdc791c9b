"""Queries of the log of sent texts. Rows are appended, never edited; the texts themselves are not kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from deltadex.access import Person, Right
from deltadex.store.database import Transaction


@dataclass(frozen=True)
class Sending:
    """One request, before it is sent.

    Attributes
    ----------
    digest
        Hex SHA-256 of the request's exact body.
    size_bytes
        Size of that body.
    """

    host: str
    model: str
    purpose: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class SentRow:
    """One request of the log."""

    id: int
    sent_at: datetime
    sent_by: str
    sending: Sending


def record(tx: Transaction, registry: str, sending: Sending, *, by: str) -> None:
    """Append a request that is about to be sent."""
    tx.execute(
        "select record_sent_text(%s, %s, %s, %s, %s, %s, %s)",
        [registry, sending.host, sending.model, sending.purpose, sending.digest, sending.size_bytes, by],
    )


def listing(tx: Transaction, viewer: Person, registry: str, *, limit: int) -> list[SentRow]:
    """Return the latest requests, newest first. They name no models.

    Raises
    ------
    AccessDenied
        The viewer may not look at this registry.
    """
    viewer.require(Right.LOOK)
    found = tx.execute(
        """
        select id, sent_at, sent_by, host, model, purpose, digest, size_bytes from sent_texts
        where registry = %s order by id desc limit %s
        """,
        [registry, limit],
    )
    return [SentRow(number, at, by, Sending(*rest)) for number, at, by, *rest in found]
