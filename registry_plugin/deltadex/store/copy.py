"""Copy of a store to another Postgres server, e.g. from the embedded one to a company's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Identifier

from deltadex.errors import StoreError
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate

#: Tables with their sort order, which is the same on every server. `reviews` and `registered_models` refer to a
#: later table.
TABLES: dict[str, LiteralString] = {
    "recipes": "id",
    "shards": "id",
    "model_versions": "id",
    "state_changes": "id",
    "training_records": "model_version_id",
    "embeddings": 'model_version_id, recipe_id, weights_digest collate "C"',
    "codes": "recipe_id, model_version_id",
    "words": 'model_version_id, recipe_id, weights_digest collate "C"',
    "imprints": 'model_version_id, recipe_id, weights_digest collate "C"',
    "meanings": 'model_version_id, texts_digest collate "C"',
    "lineage_sketches": 'model_version_id, recipe_id, weights_digest collate "C"',
    "calibrations": 'recipe_id, registry collate "C"',
    "layouts": "recipe_id, model_version_id",
    "findings": "id",
    "reviews": "id",
    "decisions": "id",
    "repeat_notices": "review_id, model_version_id",
    "registered_models": "id",
    "ownership_entries": "id",
    "notified": 'registry collate "C", rule collate "C"',
    "deliveries": "id",
    "witnesses": 'registry collate "C", name collate "C"',
    "time_stamps": "id",
    "clusters": "id",
    "cluster_assignments": "recipe_id, model_version_id",
    "cluster_runs": 'recipe_id, registry collate "C"',
    "geometries": 'recipe_id, registry collate "C"',
    "watchers": 'registry collate "C"',
    "task_searches": "id",
    "visits": 'registry collate "C", person collate "C"',
    "replays": "id",
    "taught_searches": "id",
    "sent_texts": "id",
    "advice_requests": "id",
    "safety_bases": 'base_digest collate "C", probes_digest collate "C"',
    "safety_requests": "id",
    "private_readings": 'model_version_id, probes_digest collate "C"',
    "machines": 'registry collate "C", name collate "C"',
    "work_done": 'registry collate "C", kind collate "C", name collate "C"',
}

#: Called with the table, the number of rows so far, and True if these are verified, False if only copied.
OnProgress = Callable[[str, int, bool], None]
_ROWS_PER_REPORT = 1000


def copy_store(source: Database, target: Database, *, on_progress: OnProgress) -> dict[str, int]:
    """Copy a snapshot of a store into an empty one; return the number of rows by table.

    Every row is read back and compared with the original before the commit. Indexes over codes are not copied
    (`deltadex db index` builds them), nor are writes to the source during the copy: stop the services first.

    Raises
    ------
    StoreError
        The source is not migrated, the target can't be migrated or is not empty, or a row differs after the copy.
    """
    source.check()
    migrate(target)
    with source.connect() as ours, target.connect() as theirs:
        ours.commit()  # `connect` has begun a transaction
        ours.execute("set transaction isolation level repeatable read, read only")
        for table in TABLES:
            require_empty(theirs, table)
        with no_triggers(theirs, TABLES):
            return {table: _copy_table(ours, theirs, table, on_progress) for table in TABLES}


def require_empty(theirs: Transaction, table: str) -> None:
    """Block writers to a table until the transaction ends; raise StoreError if it has rows."""
    # Block writers until the copy is done.
    theirs.execute(SQL("lock table {} in exclusive mode").format(Identifier(table)))
    if theirs.execute(SQL("select from {} limit 1").format(Identifier(table))).fetchone() is not None:
        raise StoreError(f"The target has rows in {table}", hint="Copy into a new, empty database.")


def _copy_table(ours: Transaction, theirs: Transaction, table: str, on_progress: OnProgress) -> int:
    columns = columns_of(ours, table)
    with theirs.cursor().copy(copy_in(table, columns)) as copy:
        for number, row in enumerate(_rows(ours, copy_out(table, map(Identifier, columns))), start=1):
            copy.write(row)
            if number % _ROWS_PER_REPORT == 0:
                on_progress(table, number, False)
    if "id" in columns:
        continue_ids(theirs, table)
    return _verify(ours, theirs, table, copy_out(table, comparable(columns)), on_progress)


def copy_in(table: str, columns: Iterable[str]) -> Composed:
    """Return the statement that reads a table in the binary format."""
    return SQL("copy {} ({}) from stdin (format binary)").format(
        Identifier(table), SQL(", ").join(map(Identifier, columns))
    )


def comparable(columns: Mapping[str, bool]) -> list[Composable]:
    """Return columns whose binary format is the same on every server, given those of `columns_of`."""
    return [
        SQL("{}::text").format(Identifier(name)) if has_type_oid else Identifier(name)
        for name, has_type_oid in columns.items()
    ]


def copy_out(table: str, columns: Iterable[Composable]) -> Composed:
    """Return the statement that writes a table in its order, in the binary format."""
    return SQL("copy (select {} from {} order by {}) to stdout (format binary)").format(
        SQL(", ").join(columns), Identifier(table), SQL(TABLES[table])
    )


def _verify(ours: Transaction, theirs: Transaction, table: str, query: Composed, on_progress: OnProgress) -> int:
    """Compare the table row by row and return the number of rows."""
    number = 0
    for number, (row, arrived) in enumerate(zip_longest(_rows(ours, query), _rows(theirs, query)), start=1):
        if row != arrived:
            raise StoreError(
                f"Row {number} of {table} differs in the target; nothing was committed",
                hint="Another process may have written there: copy again. If that fails, report both server versions.",
            )
        if number % _ROWS_PER_REPORT == 0:
            on_progress(table, number, True)
    rows = number - 1  # Postgres sends one message per row, and one more at the end
    on_progress(table, rows, True)
    return rows


def _rows(tx: Transaction, query: Composed) -> Iterator[bytes]:
    with tx.cursor().copy(query) as copy:
        yield from map(bytes, copy)


def columns_of(tx: Transaction, table: str) -> dict[str, bool]:
    """Return a table's columns, with True for those whose binary format contains a type OID of this server."""
    found = tx.execute(
        """
        select attname, typelem >= 16384 from pg_attribute join pg_type on pg_type.oid = atttypid
        where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attname
        """,
        [table],
    )
    return dict(found.fetchall())


@contextmanager
def no_triggers(theirs: Transaction, tables: Collection[str]) -> Iterator[None]:
    """Disable user triggers during the block: they would reject later states and write a second state history."""
    theirs.execute("set constraints all deferred")
    for table in tables:
        theirs.execute(SQL("alter table {} disable trigger user").format(Identifier(table)))
    yield
    theirs.execute("set constraints all immediate")
    for table in tables:
        theirs.execute(SQL("alter table {} enable trigger user").format(Identifier(table)))


def continue_ids(theirs: Transaction, table: str) -> None:
    """Let the ids of new rows begin after those that are there."""
    statement = SQL("select setval(pg_get_serial_sequence({}, 'id'), coalesce(max(id), 0) + 1, false) from {}")
    theirs.execute(statement.format(table, Identifier(table)))
