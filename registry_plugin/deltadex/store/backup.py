"""Tables of a store in an archive: written from a snapshot, and read into an empty database row by row as they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from zipfile import ZipFile

from psycopg.sql import Composed, Identifier

from deltadex.errors import StoreError
from deltadex.store.copy import (
    TABLES,
    OnProgress,
    columns_of,
    comparable,
    continue_ids,
    copy_in,
    copy_out,
    no_triggers,
    require_empty,
)  # fmt: skip
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate, shipped

_CHUNK = 1 << 20


@dataclass(frozen=True)
class StoredTable:
    """One table of an archive.

    Attributes
    ----------
    columns
        Its columns, in the order of the file.
    rows
        Number of rows.
    digest
        Hex SHA-256 of the rows in Postgres' binary format, with types of extensions as text.
    """

    columns: tuple[str, ...]
    rows: int
    digest: str


@contextmanager
def snapshot(source: Database) -> Iterator[Transaction]:
    """Yield a transaction that sees the store as it is now, whatever is written in that time.

    Raises
    ------
    StoreError
        The store is not migrated.
    """
    source.check()
    with source.connect() as ours:
        ours.commit()  # `connect` has begun a transaction
        ours.execute("set transaction isolation level repeatable read, read only")
        yield ours


def write_tables(ours: Transaction, archive: ZipFile, *, on_progress: OnProgress) -> dict[str, StoredTable]:
    """Write all tables to an archive."""
    return {table: _write(ours, archive, table, on_progress) for table in TABLES}


def read_tables(
    target: Database, archive: ZipFile, tables: Mapping[str, StoredTable], *, schema: Mapping[str, str],
    on_progress: OnProgress,
) -> None:  # fmt: skip
    """Read all tables of an archive into an empty database, compare their digests, and migrate to this Deltadex.

    Parameters
    ----------
    schema
        Migrations that the archive's store had: checksum by name.

    Raises
    ------
    StoreError
        The archive is of a newer Deltadex, names unknown tables or lacks one, the database can't be migrated or is not
        empty, or a table differs from what was written. Then nothing was read.
    """
    ours = {migration.name: migration.checksum for migration in shipped()}
    if not schema or any(ours.get(name) != checksum for name, checksum in schema.items()):
        raise StoreError("The backup is of a newer Deltadex", hint="Restore it with the version that made it.")
    if unknown := sorted(set(tables) - set(TABLES)):
        raise StoreError(f"The backup has an unknown table: {unknown[0]}", hint="Was it made by Deltadex?")
    migrate(target, up_to=max(schema))
    with target.connect() as theirs:
        if missing := _present(theirs) - set(tables):
            raise _lacking(min(missing))
        for table in tables:
            require_empty(theirs, table)
        with no_triggers(theirs, tables):
            for table in (name for name in TABLES if name in tables):
                _read(theirs, archive, table, tables[table])
                on_progress(table, tables[table].rows, True)
    migrate(target)


def _write(ours: Transaction, archive: ZipFile, table: str, on_progress: OnProgress) -> StoredTable:
    columns, digest, rows = columns_of(ours, table), hashlib.sha256(), 0
    with (
        archive.open(_member(table), "w", force_zip64=True) as file,
        ours.cursor().copy(copy_out(table, map(Identifier, columns))) as copy,
    ):
        for row in copy:
            file.write(row)
            digest.update(row)
            rows += 1
    rows -= 1  # Postgres sends one message for each row, and one more at the end
    if any(columns.values()):
        digest = _digest(ours, copy_out(table, comparable(columns)))
    on_progress(table, rows, False)
    return StoredTable(tuple(columns), rows, digest.hexdigest())


def _read(theirs: Transaction, archive: ZipFile, table: str, stored: StoredTable) -> None:
    columns = columns_of(theirs, table)
    if tuple(columns) != stored.columns:
        raise StoreError(f"The backup has other columns of {table} than its migrations make", hint="It was changed.")
    try:
        file = archive.open(_member(table))
    except KeyError as error:
        raise _lacking(table) from error
    with file, theirs.cursor().copy(copy_in(table, columns)) as copy:
        while chunk := file.read(_CHUNK):
            copy.write(chunk)
    if _digest(theirs, copy_out(table, comparable(columns))).hexdigest() != stored.digest:
        raise StoreError(f"{table} differs from what was backed up; nothing was restored", hint="Take another backup.")
    if "id" in columns:
        continue_ids(theirs, table)


def _present(tx: Transaction) -> set[str]:
    """Return those of our tables that the migrations so far have made."""
    found = tx.execute("select relname from pg_class where relnamespace = 'deltadex'::regnamespace and relkind = 'r'")
    return {name for (name,) in found} & set(TABLES)


def _lacking(table: str) -> StoreError:
    hint = "It was changed, or the database was made by a newer Deltadex: take another backup, or a new database."
    return StoreError(f"The backup lacks the table {table}", hint=hint)


def _digest(tx: Transaction, query: Composed) -> hashlib._Hash:
    digest = hashlib.sha256()
    with tx.cursor().copy(query) as copy:
        for row in copy:
            digest.update(row)
    return digest


def _member(table: str) -> str:
    return f"tables/{table}.copy"
