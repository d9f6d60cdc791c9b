"""HNSW indexes over the codes of large recipes: none is made before somebody asks for it with `deltadex db index`.

Until then every search scans, and takes as long as it takes. Measured on 100,000 synthetic 4,096-d vectors: built in
34 s (136 MB) on two busy cores; recall@10 over 150 questions .993 with 150 candidates, .996 with 200 (8 ms of CPU),
.997 with 400 (12 ms). With `ef_construction` at 64 it was .978 with 400 (built in 22 s).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier, Literal

from deltadex.store.codes import CODE_SIZE
from deltadex.store.database import Database, Transaction

#: Codes that a search may scan: about 15 ms. An index is worth its price, inserts fifty times slower, above them.
SCANNED_AT_MOST = 30_000

#: Any number, as long as all versions of Deltadex use this one.
_LOCK = 7_201_544_362
#: What a code takes in the index, with its edges; a build that does not fit in memory takes six times as long.
_BYTES_PER_CODE, _MOST_MEMORY = 1_500, 2 << 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """The index of one recipe.

    Attributes
    ----------
    versions
        How many versions it held when Postgres last counted.
    size
        Numbers in each of its codes.
    """

    versions: int
    size: int

    @property
    def expression(self) -> Composed:
        """What must be ordered by for the index to be used; a scan orders by the bare column instead."""
        return SQL("(code::halfvec({}))").format(Literal(self.size))


def find_index(tx: Transaction, recipe_id: int) -> Index | None:
    """Return the index of a recipe, if it has one that is ready."""
    row = tx.execute(
        """
        select reltuples::bigint, least(dimension, %s) from pg_index
        join pg_class on pg_class.oid = indexrelid join recipes on recipes.id = %s
        where indexrelid = to_regclass(%s) and indisvalid
        """,
        [CODE_SIZE, recipe_id, _name(recipe_id)],
    ).fetchone()
    return None if row is None else Index(*row)


def due(tx: Transaction, *, above: int = SCANNED_AT_MOST) -> dict[int, int]:
    """Return the number of codes of each recipe that should have an index and has none, by recipe id."""
    counted = tx.execute(
        "select recipe_id, count(*) from codes group by recipe_id having count(*) > %s order by recipe_id", [above]
    ).fetchall()
    return {recipe_id: count for recipe_id, count in counted if find_index(tx, recipe_id) is None}


def build(database: Database, *, above: int = SCANNED_AT_MOST) -> list[int]:
    """Build the indexes that are due, while others read and write; return the ids of their recipes.

    Of several processes one builds, and the others return when it is done. Killed in the middle, the next call starts
    that index anew.

    Raises
    ------
    StoreError
        Only the owner of the tables may do this.
    """
    built = []
    with database.connect() as connection:
        connection.commit()
        connection.autocommit = True
        _wait_for_turn(connection)
        for recipe_id, count in due(connection, above=above).items():
            _build(connection, recipe_id, count)
            built.append(recipe_id)
    return built


def _wait_for_turn(connection: Connection) -> None:
    # A statement that waits for a lock holds a snapshot, and CREATE INDEX CONCURRENTLY waits for all snapshots.
    while connection.execute("select pg_try_advisory_lock(%s)", [_LOCK]).fetchone() == (False,):
        time.sleep(0.5)


def _build(connection: Connection, recipe_id: int, count: int) -> None:
    memory = min(_MOST_MEMORY, max(64 << 20, count * _BYTES_PER_CODE))
    connection.execute("select set_config('maintenance_work_mem', %s, false)", [f"{memory >> 10}kB"])
    row = connection.execute("select dimension from recipes where id = %s", [recipe_id]).fetchone()
    name, size = Identifier(_name(recipe_id)), Literal(min(row[0] if row else CODE_SIZE, CODE_SIZE))
    # What a killed build left: it is not valid, and would be kept up to date for nobody.
    connection.execute(SQL("drop index concurrently if exists {}").format(name))
    connection.execute(
        SQL(
            "create index concurrently {} on codes using hnsw ((code::halfvec({})) halfvec_ip_ops) "
            "with (m = 16, ef_construction = 128) where recipe_id = {}"
        ).format(name, size, Literal(recipe_id))
    )
    log.info("index built recipe_id=%d codes=%d", recipe_id, count)


def _name(recipe_id: int) -> str:
    return f"codes_hnsw_{recipe_id}"
