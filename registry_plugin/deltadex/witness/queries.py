"""The present heads, what was published to each witness, and time stamps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.sql import SQL, Identifier

from deltadex.store.database import Transaction
from deltadex.witness.head import LogHead


class HashedTable(StrEnum):
    """Tables whose entries each have the hash of the one before."""

    LOG = "decisions"
    OWNERSHIP = "ownership_entries"


@dataclass(frozen=True)
class HashedEntries:
    """Number of entries of a log, and hashes of some of them by their number."""

    count: int
    hashes: Mapping[int, str]


@dataclass(frozen=True)
class LastEntry:
    """Hash of the log's last entry, and the time of the last one of the ownership history; None if it has none."""

    hash: str
    owned_at: datetime | None = None


@dataclass(frozen=True)
class WitnessState:
    """State of publication to one witness.

    Attributes
    ----------
    entries, hash, published_at
        The head that was published last; None before the first.
    attempts
        Failed attempts since then; `error` is the last one's.
    caution
        Why the witness is weaker than it should be; empty if nothing is known.
    asked_at
        When the watcher last compared the log with what the witness holds; None if it can't be asked.
    contradiction
        How they differed then; empty if they did not.
    """

    name: str
    entries: int | None = None
    hash: str | None = None
    published_at: datetime | None = None
    attempts: int = 0
    tried_at: datetime | None = None
    error: str = ""
    caution: str = ""
    asked_at: datetime | None = None
    contradiction: str = ""


def present_head(tx: Transaction, registry: str) -> LogHead | None:
    """Return the head of the log, which all registries of a database share; None if it has no entry."""
    row = tx.execute(
        """
        select (select count(*) from decisions), hash, now(), coalesce((
            select concat((select count(*) from ownership_entries), ':', hash) from ownership_entries
            order by id desc limit 1), '')
        from decisions order by id desc limit 1
        """
    ).fetchone()
    if row is None:
        return None
    entries, digest, at, ownership = row
    return LogHead(registry, entries, digest, at, ownership=ownership)


def last_entry(tx: Transaction) -> LastEntry | None:
    """Return the log's last entry, without counting the entries; None if it has none."""
    row = tx.execute(
        """
        select hash, (select recorded_at from ownership_entries order by id desc limit 1)
        from decisions order by id desc limit 1
        """
    ).fetchone()
    return None if row is None else LastEntry(*row)


def entries_at(tx: Transaction, chain: HashedTable, numbers: Collection[int]) -> HashedEntries:
    """Return the hashes of the entries with these numbers."""
    table = Identifier(chain)
    found = tx.execute(
        SQL(
            """
            select number, hash from (select row_number() over (order by id) as number, hash from {}) entry
            where number = any(%s)
            """
        ).format(table),
        [sorted(numbers)],
    ).fetchall()
    row = tx.execute(SQL("select count(*) from {}").format(table)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return HashedEntries(row[0], dict(found))


def is_of_ownership(tx: Transaction, digest: str) -> bool:
    """Return True if an entry of the ownership history has this hash."""
    return tx.execute("select from ownership_entries where hash = %s", [digest]).fetchone() is not None


def states(tx: Transaction, registry: str) -> dict[str, WitnessState]:
    """Return the states of all witnesses that were ever published to, by name."""
    found = tx.execute(
        """
        select name, entries, hash, published_at, attempts, tried_at, error, caution, asked_at, contradiction
        from witnesses where registry = %s order by name
        """,
        [registry],
    )
    return {row[0]: WitnessState(*row) for row in found}


def published(tx: Transaction, head: LogHead, name: str, *, caution: str) -> None:
    """Record that a witness has this head."""
    tx.execute(
        """
        insert into witnesses as known (registry, name, entries, hash, published_at, tried_at, caution)
        values (%s, %s, %s, %s, %s, now(), %s)
        on conflict (registry, name) do update set
            entries = excluded.entries, hash = excluded.hash, published_at = excluded.published_at,
            tried_at = excluded.tried_at, caution = excluded.caution, attempts = 0, error = ''
        """,
        [head.registry, name, head.entries, head.hash, head.at, caution],
    )


def failed(tx: Transaction, registry: str, name: str, *, error: str) -> None:
    """Record a failed attempt."""
    tx.execute(
        """
        insert into witnesses as known (registry, name, attempts, tried_at, error) values (%s, %s, 1, now(), %s)
        on conflict (registry, name) do update set
            attempts = known.attempts + 1, tried_at = excluded.tried_at, error = excluded.error
        """,
        [registry, name, error],
    )


def compared(tx: Transaction, registry: str, name: str, *, contradiction: str) -> None:
    """Record that the log was compared with what a witness holds."""
    tx.execute(
        """
        insert into witnesses (registry, name, asked_at, contradiction) values (%s, %s, now(), %s)
        on conflict (registry, name) do update set asked_at = excluded.asked_at, contradiction = excluded.contradiction
        """,
        [registry, name, contradiction],
    )


def forget_others(tx: Transaction, registry: str, *, names: Collection[str]) -> None:
    """Delete the states of witnesses that the settings name no more. What these hold stays with them."""
    tx.execute("delete from witnesses where registry = %s and name <> all(%s)", [registry, sorted(names)])


def keep_stamps(tx: Transaction, head: LogHead, stamps: Mapping[str, str]) -> None:
    """Keep the time stamps of a head."""
    tx.cursor().executemany(
        """
        insert into time_stamps (registry, authority, entries, hash, stamped_at, answer)
        values (%s, %s, %s, %s, %s, %s)
        """,
        [(head.registry, name, head.entries, head.hash, head.at, answer) for name, answer in stamps.items()],
    )


def stamped(tx: Transaction, registry: str) -> Sequence[LogHead]:
    """Return the heads that have a time stamp here, with it, in the order of the stamps."""
    found = tx.execute(
        "select entries, hash, stamped_at, authority, answer from time_stamps where registry = %s order by id",
        [registry],
    )
    return [
        LogHead(registry, entries, digest, at, {authority: answer}) for entries, digest, at, authority, answer in found
    ]
