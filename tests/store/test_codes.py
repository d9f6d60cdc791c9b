"""Codes: fixed for good, and as close to the truth as the searches that rest on them assume."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import psycopg
import pytest
from pgvector import Vector
from pgvector.psycopg import register_vector

from deltadex.store import codes, search
from deltadex.store.database import Database
from deltadex.store.migrate import migrate, shipped

DIMENSION = 2048


def test_codes_are_what_they_always_were() -> None:
    """Those of one database must never come from two matrices; a change needs a migration of all codes."""
    signs = codes.codes_of(np.eye(600, dtype=np.float32)) > 0
    digest = hashlib.sha256(np.packbits(signs).tobytes()).hexdigest()
    assert digest == "bce8cc1ac5a160f667796e82aa222d9fc45a472a3e1b62f306b8517235e384ae"


def test_a_short_vector_is_its_own_code() -> None:
    vectors = np.random.default_rng(0).standard_normal((5, codes.CODE_SIZE)).astype(np.float32)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(codes.codes_of(vectors), expected, rtol=1e-6)
    assert codes.spread(codes.CODE_SIZE) == 0 < codes.spread(codes.CODE_SIZE + 1)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_a_code_has_length_one_whatever_the_vector(factor: float) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, DIMENSION)).astype(np.float32) * np.float32(factor)
    np.testing.assert_allclose(np.linalg.norm(codes.codes_of(vectors), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("dimensions", [DIMENSION, 3], ids=["spread out", "outliers only"])
def test_estimates_err_as_the_law_says(similarity: float, dimensions: int) -> None:
    """Also where a few outlier dimensions hold everything, as in hidden states."""
    random = np.random.default_rng(0)
    one, other = np.zeros((2, 2000, DIMENSION), dtype=np.float32)
    for row in range(2000):
        where = random.choice(DIMENSION, dimensions, replace=False)
        basis, _ = np.linalg.qr(random.standard_normal((dimensions, 2)))
        one[row, where] = basis[:, 0]
        other[row, where] = similarity * basis[:, 0] + math.sqrt(1 - similarity**2) * basis[:, 1]
    estimates = np.sum(codes.codes_of(one) * codes.codes_of(other), axis=1, dtype=np.float64)
    off = (np.arctanh(estimates) - math.atanh(similarity)) * math.sqrt(codes.CODE_SIZE)
    assert off.std() < 1.05
    assert off.min() > -codes.SIGMAS


def test_half_precision_errs_less_than_is_allowed_for() -> None:
    random = np.random.default_rng(0)
    units = codes.codes_of(random.standard_normal((300, codes.CODE_SIZE)) ** 3)
    halves = units.astype(np.float16).astype(np.float64)
    assert np.abs(halves @ halves.T - units.astype(np.float64) @ units.T).max() < codes.ROUNDING


def test_a_migration_codes_what_was_embedded_before(database: Database) -> None:
    """From the last release without codes, with data in it."""
    vectors = np.random.default_rng(0).standard_normal((300, DIMENSION)).astype(np.float32)
    vectors[1] = vectors[0] + 0.1 * vectors[1]
    with psycopg.connect(database.url) as connection:
        connection.execute("drop schema deltadex cascade; create schema deltadex; set search_path to deltadex, public")
        connection.execute("create table schema_migrations (name text primary key, checksum text not null)")
        for migration in shipped()[:2]:
            connection.execute(migration.sql)
            connection.execute("insert into schema_migrations values (%s, %s)", [migration.name, migration.checksum])
        register_vector(connection)
        _insert_as_before(connection, vectors)
    assert "0003_search.sql" in migrate(database)
    with database.transaction() as tx:
        [first, *_] = (row[0] for row in tx.execute("select id from model_versions order by id"))
        found = search.neighbors(tx, first, k=1)
        assert [one.version.label for one in found.neighbors] == ["m/2"]
        assert tx.execute("select count(*) from codes").fetchone() == (298,)
        assert codes.fill(tx) == 0


def _insert_as_before(connection: psycopg.Connection, vectors: np.ndarray) -> None:
    connection.execute(
        "insert into recipes (digest, method, base_digest, base_name, dimension) values ('r', '{}', 'b', 'base', %s)",
        [DIMENSION],
    )
    for number, vector in enumerate(vectors, start=1):
        is_weak, norm = number == 299, float(number != 300)
        connection.execute(
            """
            with version as (
                insert into model_versions (registry, name, version, created_ms, source, queue, state)
                values ('acme', 'm', %(number)s, %(number)s, 's', 'fresh', 'embedded') returning id)
            insert into embeddings
            select version.id, recipes.id, %(vector)b, %(norm)s, 1, 1, %(is_weak)s, %(digest)s from version, recipes
            """,
            {"number": number, "vector": Vector(vector * norm), "norm": norm, "is_weak": is_weak, "digest": "d"},
        )
