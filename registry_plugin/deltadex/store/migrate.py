"""The schema: numbered SQL files, applied once each, in order, in a Postgres schema of our own."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg
from psycopg import Connection

from deltadex.errors import StoreError
from deltadex.store import codes, roles
from deltadex.store.roles import Role

if TYPE_CHECKING:
    from deltadex.store.database import Database

#: `unique nulls not distinct` is from 15.
MINIMUM_SERVER = 15
#: Earlier ones have a heap overflow (CVE-2026-3172) and faulty vacuums.
MINIMUM_PGVECTOR = (0, 8, 4)

_NUMBERED = re.compile(r"\d{4}_\w+\.sql")
#: Any number, as long as all versions of Deltadex use this one.
_LOCK = 7_201_544_361

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file of this package."""

    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        """Hex SHA-256 over the file."""
        return hashlib.sha256(self.sql).hexdigest()


@dataclass(frozen=True)
class Status:
    """What a database holds of ours.

    Attributes
    ----------
    server, vector
        Versions of Postgres and of pgvector; `vector` is None where that is not enabled.
    owner
        Who made the tables and may migrate, copy, prune and index; None where there are none.
    applied
        Names of migrations and when they were applied.
    pending
        Names of those that are not applied.
    without_rights
        Roles that may not use these tables.
    size_bytes
        What the tables and their indexes take on disk.
    """

    server: str
    vector: str | None
    owner: str | None
    applied: dict[str, datetime]
    pending: list[str]
    without_rights: list[Role]
    size_bytes: int


def shipped() -> list[Migration]:
    """Return the migrations of this package, in order."""
    folder = files("deltadex.store") / "migrations"
    found = (Migration(entry.name, entry.read_bytes()) for entry in folder.iterdir() if _NUMBERED.fullmatch(entry.name))
    return sorted(found, key=lambda migration: migration.name)


def migrate(database: Database) -> list[str]:
    """Apply what is missing, in one transaction, and return the names of what was applied.

    Any number of processes may do this at the same time: one does it, the others wait and find it done.

    Raises
    ------
    StoreError
        pgvector is missing or too old, rights are missing, a file was changed after it had been applied, or the
        database is newer than this Deltadex.
    """
    with database.connect() as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        _require_server(connection)
        _create_vector(connection)
        require_vector(connection)
        _create_schema(connection)
        missing = pending(connection)
        for migration in missing:
            connection.execute(migration.sql)
            connection.execute(
                "insert into schema_migrations (name, checksum) values (%s, %s)", [migration.name, migration.checksum]
            )
            log.info("migrated name=%s", migration.name)
        if missing and (written := codes.fill(connection)):
            log.info("codes written count=%d", written)
        roles.grant(connection)
    return [migration.name for migration in missing]


def read_status(database: Database) -> Status:
    """Look at a database without changing anything.

    Raises
    ------
    StoreError
        Postgres is away, or what was applied is not what this Deltadex ships.
    """
    with database.connect() as connection:
        has_tables = connection.execute("select to_regclass('deltadex.schema_migrations')").fetchone() != (None,)
        vector = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
        applied, owner, size = _what_is_there(connection) if has_tables else ({}, None, 0)
        return Status(
            server=_server(connection),
            vector=str(vector[0]) if vector else None,
            owner=owner,
            applied=applied,
            pending=[migration.name for migration in (pending(connection) if has_tables else shipped())],
            without_rights=roles.without_rights(connection) if has_tables else list(Role),
            size_bytes=size,
        )


def _what_is_there(connection: Connection) -> tuple[dict[str, datetime], str, int]:
    applied: dict[str, datetime] = dict(
        connection.execute("select name, applied_at from schema_migrations order by name").fetchall()
    )
    row = connection.execute(
        """
        select max(pg_get_userbyid(relowner)), sum(pg_total_relation_size(oid))::bigint
        from pg_class where relnamespace = 'deltadex'::regnamespace and relkind = 'r'
        """
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return applied, *row


def pending(connection: Connection) -> list[Migration]:
    """Return what was not applied yet, in order.

    Raises
    ------
    StoreError
        What was applied is not what this Deltadex ships.
    """
    applied: dict[str, str] = dict(connection.execute("select name, checksum from schema_migrations").fetchall())
    ours = {migration.name: migration for migration in shipped()}
    for name, checksum in sorted(applied.items()):
        if name not in ours:
            raise StoreError(f"The database is newer than this Deltadex: it has {name}", hint="Upgrade Deltadex.")
        if ours[name].checksum != checksum:
            raise StoreError(
                f"{name} is not what was applied to this database", hint="Install an unchanged release of Deltadex."
            )
    return [migration for name, migration in ours.items() if name not in applied]


def require_vector(connection: Connection) -> str:
    """Return the version of pgvector in this database.

    Raises
    ------
    StoreError
        It is missing or too old.
    """
    row = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    if row is None:
        raise StoreError("This database has no pgvector yet", hint="Run `deltadex init`.")
    version = str(row[0])
    if tuple(int(part) for part in re.findall(r"\d+", version)) < MINIMUM_PGVECTOR:
        least = ".".join(map(str, MINIMUM_PGVECTOR))
        raise StoreError(
            f"pgvector {version} is too old, {least} is needed",
            hint="Install a newer one on the server, then `ALTER EXTENSION vector UPDATE` in this database.",
        )
    return version


def _server(connection: Connection) -> str:
    version = connection.info.server_version
    return f"{version // 10_000}.{version % 10_000}"


def _require_server(connection: Connection) -> None:
    if connection.info.server_version // 10_000 < MINIMUM_SERVER:
        raise StoreError(
            f"PostgreSQL {_server(connection)} is too old, {MINIMUM_SERVER} is needed", hint="Upgrade the server."
        )


def _create_vector(connection: Connection) -> None:
    with _explained("pgvector could not be enabled", hint="Install pgvector; a superuser: `CREATE EXTENSION vector`."):
        connection.execute("create extension if not exists vector")


def _create_schema(connection: Connection) -> None:
    """Keep apart from whatever else lives in the database: MLflow has a table `model_versions` too."""
    with _explained("The schema `deltadex` could not be made", hint="Grant CREATE on the database to this user."):
        # `if not exists` would ask for the right to create even where the schema exists.
        if connection.execute("select to_regnamespace('deltadex')").fetchone() == (None,):
            connection.execute("create schema deltadex")
        if connection.execute("select to_regclass('deltadex.schema_migrations')").fetchone() == (None,):
            connection.execute(
                "create table deltadex.schema_migrations ("
                "name text primary key, checksum text not null, applied_at timestamptz not null default now())"
            )


@contextmanager
def _explained(message: str, *, hint: str) -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
        raise StoreError(f"{message}: {str(error).splitlines()[0]}", hint=hint) from error
