"""A scratch store with synthetic versions, and exact answers to queries."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pgvector import HalfVector, Vector
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from benchmarks.synthetic_vectors import CHUNK, Matrix, SyntheticVectors
from deltadex.embeddings.codes import codes_of
from deltadex.engine.probes import PUBLISHED
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.types import ModelVersionRef, Recipe, RegisteredVersion
from deltadex.versions import transitions

REGISTRY, BASE_NORM = "benchmark", 100.0
#: Share of the versions by team; the rest belongs to none of these.
TEAMS = {"tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}
LIMIT = 10


@dataclass(frozen=True, eq=False)
class Company:
    """Versions in a store.

    Attributes
    ----------
    ids
        `(n,)` rows of `model_versions`.
    teams
        `(n,)` names of teams; `rest` for none of `TEAMS`.
    vectors
        `(n, dimension)` float32, a memory map.
    load_seconds
        Time for writing the versions, with everything that the store keeps for them.
    """

    database: Database
    recipe: Recipe
    recipe_id: int
    ids: NDArray[np.int64]
    teams: NDArray[np.str_]
    vectors: Matrix
    load_seconds: float

    @property
    def bytes_beyond_vectors(self) -> float:
        """Size of the database without the vectors, indexes included, as a share of the vectors' bytes."""
        with self.database.transaction() as tx:
            row = tx.execute(
                "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and "
                "relnamespace = 'deltadex'::regnamespace"
            ).fetchone()
        return float(row[0] if row else 0) / self.vectors.nbytes - 1

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of this process and the server's processes so far."""
        with self.database.transaction() as tx:
            row = tx.execute("select split_part(pg_read_file('postmaster.pid'), chr(10), 1)::integer").fetchone()
        server = psutil.Process(row[0] if row else None)
        times = [process.cpu_times() for process in [server, *server.children()]]
        return time.process_time() + sum(used.user + used.system for used in times)

    def nearest(self, rows: Sequence[int], team: str | None) -> list[set[int]]:
        """Return the ids of the `LIMIT` versions nearest to each row, of one team or of all, by brute force."""
        targets = units(self.vectors[list(rows)])
        similarity = np.concatenate(
            [targets @ units(self.vectors[start : start + CHUNK]).T for start in range(0, len(self.vectors), CHUNK)],
            axis=1,
        )
        similarity[np.arange(len(rows)), list(rows)] = -2
        if team is not None:
            similarity[:, self.teams != team] = -2
        best = np.argpartition(-similarity, LIMIT, axis=1)[:, :LIMIT]
        return [
            {int(self.ids[index]) for index in indices if similarity[number, index] > -2}
            for number, indices in enumerate(best)
        ]


@contextmanager
def scratch_database(folder: Path) -> Iterator[Database]:
    """Run an embedded Postgres with Deltadex's tables in a folder."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    with EmbeddedPostgres(folder / "postgres", port).running() as url, Database(url, pool_size=20) as database:
        migrate(database)
        yield database


def load(database: Database, synthetic: SyntheticVectors, folder: Path) -> Company:
    """Generate versions and write them in bulk, with their search codes."""
    shape = (synthetic.count, synthetic.dimension)
    vectors = open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    shares = [*TEAMS.values(), 1 - sum(TEAMS.values())]
    teams = np.random.default_rng(1).choice([*TEAMS, "rest"], p=shares, size=synthetic.count)
    recipe = Recipe(PUBLISHED, "synthetic", synthetic.dimension)
    with database.transaction() as tx:
        recipe_id = _insert_recipe(tx, recipe)
    ids: list[int] = []
    seconds = 0.0
    for chunk in synthetic.chunks():
        rows_of_chunk = slice(len(ids), len(ids) + len(chunk))
        vectors[rows_of_chunk] = chunk
        started = time.perf_counter()
        with database.transaction() as tx:
            ids += _insert(tx, recipe_id, rows_of_chunk.start, chunk, teams[rows_of_chunk])
            _insert_codes(tx, recipe_id, ids[rows_of_chunk], chunk)
        seconds += time.perf_counter() - started
    with database.connect() as connection:
        connection.commit()
        connection.autocommit = True
        connection.execute("vacuum analyze")
    return Company(database, recipe, recipe_id, np.array(ids), teams, vectors, seconds)


def _insert_recipe(tx: Transaction, recipe: Recipe) -> int:
    row = tx.execute(
        """
        insert into recipes (digest, method, base_digest, base_name, dimension)
        values (%s, %s, %s, 'synthetic', %s) returning id
        """,
        [recipe.digest, Jsonb(asdict(recipe.method)), recipe.base_digest, recipe.dimension],
    ).fetchone()
    return int(row[0]) if row else 0


def _insert(tx: Transaction, recipe_id: int, first: int, vectors: Matrix, teams: NDArray[np.str_]) -> list[int]:
    """Return the ids of new embedded versions, in the order of the vectors."""
    registered = [
        RegisteredVersion(
            ModelVersionRef(REGISTRY, f"model-{number // 5:07}", number % 5 + 1, number),
            source=f"models:/m-{number:032x}",
            run_id=f"{number:032x}",
            tags={"team": str(team)},
        )
        for number, team in enumerate(teams, start=first)
    ]
    ids = transitions.discover(tx, registered, fresh_since_ms=0)
    norms = np.linalg.norm(vectors, axis=1)
    columns = "model_version_id, recipe_id, vector, norm, base_norm, probe_agreement, is_weak, weights_digest"
    with tx.cursor() as cursor, cursor.copy(SQL(f"copy embeddings ({columns}) from stdin (format binary)")) as copy:
        copy.set_types(["int8", "int8", "vector", "float8", "float8", "float8", "bool", "text"])
        for version_id, vector, norm in zip(ids, vectors, norms.tolist(), strict=True):
            copy.write_row((version_id, recipe_id, Vector(vector), norm, BASE_NORM, 1.0, False, f"{version_id:064x}"))
    tx.execute(
        """
        update model_versions set state = 'embedded', weights_digest = lpad(to_hex(id), 64, '0'), artifact_uri = source
        where id = any(%s)
        """,
        [ids],
    )
    return ids


def _insert_codes(tx: Transaction, recipe_id: int, ids: Sequence[int], vectors: Matrix) -> None:
    columns = "recipe_id, model_version_id, registry, code"
    with tx.cursor() as cursor, cursor.copy(SQL(f"copy codes ({columns}) from stdin (format binary)")) as copy:
        copy.set_types(["int8", "int8", "text", "halfvec"])
        for version_id, code in zip(ids, codes_of(vectors), strict=True):
            copy.write_row((recipe_id, version_id, REGISTRY, HalfVector(code)))


def units(vectors: Matrix) -> Matrix:
    units: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
