"""A scratch store with many synthetic versions in it, and the right answers to questions about them."""

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
from pgvector import Vector
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from benchmarks.synthetic_vectors import CHUNK, Matrix, SyntheticVectors
from deltadex.domain import ModelVersionRef, Recipe, RegisteredVersion
from deltadex.probes import DELTA_ACTIVATION
from deltadex.store import codes, version_changes
from deltadex.store.database import Database, Transaction
from deltadex.store.embedded import EmbeddedPostgres
from deltadex.store.migrate import migrate

REGISTRY, BASE_NORM = "benchmark", 100.0
#: Teams by the share of the versions that they own; the rest belongs to none of them.
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
        `(n,)` names, the last one for none of `TEAMS`.
    vectors
        `(n, dimension)` float32, a memory map.
    load_seconds
        What writing them took, with whatever the store keeps beside them.
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
        """What the database takes per version, rows, indexes and all, as a share of the vector's own bytes."""
        with self.database.transaction() as tx:
            row = tx.execute(
                "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and "
                "relnamespace = 'deltadex'::regnamespace"
            ).fetchone()
        return float(row[0] if row else 0) / self.vectors.nbytes - 1

    def cpu_seconds(self) -> float:
        """Return what this process and all of the server's have computed so far."""
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
            {int(self.ids[place]) for place in places if similarity[number, place] > -2}
            for number, places in enumerate(best)
        ]


@contextmanager
def scratch_database(folder: Path) -> Iterator[Database]:
    """Run an embedded Postgres in a folder, with our tables."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    with EmbeddedPostgres(folder / "postgres", port).running() as url, Database(url, pool_size=20) as database:
        migrate(database)
        yield database


def load(database: Database, synthetic: SyntheticVectors, folder: Path) -> Company:
    """Generate versions and write them as a backfill does: in bulk, then the codes that they are searched by."""
    shape = (synthetic.count, synthetic.dimension)
    vectors = open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    shares = [*TEAMS.values(), 1 - sum(TEAMS.values())]
    teams = np.random.default_rng(1).choice([*TEAMS, "rest"], p=shares, size=synthetic.count)
    recipe = Recipe(DELTA_ACTIVATION, "synthetic", synthetic.dimension)
    with database.transaction() as tx:
        recipe_id = _insert_recipe(tx, recipe)
    ids: list[int] = []
    seconds = 0.0
    for chunk in synthetic.chunks():
        these = slice(len(ids), len(ids) + len(chunk))
        vectors[these] = chunk
        begun = time.perf_counter()
        with database.transaction() as tx:
            ids += _insert(tx, recipe_id, these.start, chunk, teams[these])
        seconds += time.perf_counter() - begun
    begun = time.perf_counter()
    with database.transaction() as tx:
        codes.fill(tx)
    seconds += time.perf_counter() - begun
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
    ids = version_changes.discover(tx, registered, fresh_since_ms=0)
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


def units(vectors: Matrix) -> Matrix:
    units: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
