"""Moving a store from one Postgres to another: the embedded one to a company's, an old server's to a new one's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Identifier

from deltadex.errors import StoreError
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate

#: By what each is ordered, in the same way on every server; none but `reviews` refers to a later one.
TABLES: dict[str, LiteralString] = {
    "recipes": "id",
    "model_versions": "id",
    "state_changes": "id",
    "embeddings": 'model_version_id, recipe_id, weights_digest collate "C"',
    "codes": "recipe_id, model_version_id",
    "words": 'model_version_id, recipe_id, weights_digest collate "C"',
    "imprints": 'model_version_id, recipe_id, weights_digest collate "C"',
    "calibrations": 'recipe_id, registry collate "C"',
    "layouts": "recipe_id, model_version_id",
    "findings": "id",
    "reviews": "id",
    "decisions": "id",
    "notified": 'registry collate "C", rule collate "C"',
    "deliveries": "id",
    "clusters": "id",
    "cluster_assignments": "recipe_id, model_version_id",
    "cluster_runs": 'recipe_id, registry collate "C"',
    "geometries": 'recipe_id, registry collate "C"',
    "watchers": 'registry collate "C"',
    "task_searches": "id",
}

#: Called with the table, its rows so far, and whether these are verified or only copied.
OnProgress = Callable[[str, int, bool], None]
_NEWS_ROWS = 1000


def copy_store(source: Database, target: Database, *, on_progress: OnProgress) -> dict[str, int]:
    """Copy one moment of a store into another one that is empty; return the rows of each table.

    Every row is read back and compared with the original before anything is committed. Indexes over codes are not
    copied: see indexes.py. Nor is what is written to the source meanwhile: stop the services first.

    Raises
    ------
    StoreError
        The source is not migrated, the target can't be or is not empty, or a row arrived changed.
    """
    source.check()
    migrate(target)
    with source.connect() as ours, target.connect() as theirs:
        ours.commit()  # looking for the tables has begun a transaction
        ours.execute("set transaction isolation level repeatable read, read only")
        for table in TABLES:
            _require_empty(theirs, table)
        with _no_triggers(theirs):
            return {table: _copy_table(ours, theirs, table, on_progress) for table in TABLES}


def _require_empty(theirs: Transaction, table: str) -> None:
    # Nobody may add to it before we are done.
    theirs.execute(SQL("lock table {} in exclusive mode").format(Identifier(table)))
    if theirs.execute(SQL("select from {} limit 1").format(Identifier(table))).fetchone() is not None:
        raise StoreError(f"The target has rows in {table}", hint="Copy into a new, empty database.")


def _copy_table(ours: Transaction, theirs: Transaction, table: str, on_progress: OnProgress) -> int:
    columns = _columns(ours, table)
    into = SQL("copy {} ({}) from stdin (format binary)").format(
        Identifier(table), SQL(", ").join(map(Identifier, columns))
    )
    with theirs.cursor().copy(into) as arriving:
        for number, row in enumerate(_rows(ours, _out(table, map(Identifier, columns))), start=1):
            arriving.write(row)
            if number % _NEWS_ROWS == 0:
                on_progress(table, number, False)
    if "id" in columns:
        _continue_ids(theirs, table)
    comparable = [
        SQL("{}::text").format(Identifier(name)) if names_its_type else Identifier(name)
        for name, names_its_type in columns.items()
    ]
    return _verify(ours, theirs, table, _out(table, comparable), on_progress)


def _out(table: str, columns: Iterable[Composable]) -> Composed:
    return SQL("copy (select {} from {} order by {}) to stdout (format binary)").format(
        SQL(", ").join(columns), Identifier(table), SQL(TABLES[table])
    )


def _verify(ours: Transaction, theirs: Transaction, table: str, out: Composed, on_progress: OnProgress) -> int:
    """Compare row by row as the servers send them, and return how many there are."""
    number = 0
    for number, (row, arrived) in enumerate(zip_longest(_rows(ours, out), _rows(theirs, out)), start=1):
        if row != arrived:
            raise StoreError(
                f"Row {number} of {table} is another one in the target; nothing was kept",
                hint="Did somebody write there? Copy again; if it stays so, report it with the servers' versions.",
            )
        if number % _NEWS_ROWS == 0:
            on_progress(table, number, True)
    rows = number - 1  # Postgres sends one message per row, and one more that ends them
    on_progress(table, rows, True)
    return rows


def _rows(tx: Transaction, out: Composed) -> Iterator[bytes]:
    with tx.cursor().copy(out) as copy:
        yield from map(bytes, copy)


def _columns(tx: Transaction, table: str) -> dict[str, bool]:
    """Return a table's columns, and which ones carry the number of their type, which is another on each server."""
    found = tx.execute(
        """
        select attname, typelem >= 16384 from pg_attribute join pg_type on pg_type.oid = atttypid
        where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attname
        """,
        [table],
    )
    return dict(found.fetchall())


@contextmanager
def _no_triggers(theirs: Transaction) -> Iterator[None]:
    """Copy histories as they are: triggers would refuse states past the first and write a history of their own."""
    theirs.execute("set constraints all deferred")
    for table in TABLES:
        theirs.execute(SQL("alter table {} disable trigger user").format(Identifier(table)))
    yield
    theirs.execute("set constraints all immediate")
    for table in TABLES:
        theirs.execute(SQL("alter table {} enable trigger user").format(Identifier(table)))


def _continue_ids(theirs: Transaction, table: str) -> None:
    statement = SQL("select setval(pg_get_serial_sequence({}, 'id'), coalesce(max(id), 0) + 1, false) from {}")
    theirs.execute(statement.format(table, Identifier(table)))
