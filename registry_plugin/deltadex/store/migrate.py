"""Migrations of the Postgres schema `deltadex`: numbered SQL files, each applied once, in order."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg
from psycopg import Connection

from deltadex.errors import StoreError
from deltadex.store import roles
from deltadex.store.roles import DatabaseRole

if TYPE_CHECKING:
    from deltadex.store.database import Database

#: `unique nulls not distinct` needs Postgres 15.
MINIMUM_SERVER = 15
#: Earlier releases have a heap overflow (CVE-2026-3172) and faulty vacuums.
MINIMUM_PGVECTOR = (0, 8, 4)

#: Embeddings are restored from the registry's artifacts; decisions are only in the database.
_START_OVER = (
    "`drop schema deltadex cascade` in it or take an empty database, then `deltadex init` and `deltadex rebuild`. "
    "Decisions about findings are not restored."
)

_NUMBERED = re.compile(r"\d{4}_\w+\.sql")
#: An arbitrary number that all versions of Deltadex must share.
_LOCK = 7_201_544_361

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file of this package."""

    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        """Hex SHA-256 of the file."""
        return hashlib.sha256(self.sql).hexdigest()


@dataclass(frozen=True)
class MigrationStatus:
    """State of the schema in a database.

    Attributes
    ----------
    server, vector
        Versions of Postgres and pgvector; `vector` is None if the extension is not enabled.
    owner
        Owner of the tables, who may migrate, copy, prune and index; None if there are no tables.
    applied
        Time of application by name of migration.
    pending
        Names of migrations that are not applied yet.
    without_rights
        Group roles without rights on the tables.
    size_bytes
        Size of the tables and their indexes on disk.
    """

    server: str
    vector: str | None
    owner: str | None
    applied: dict[str, datetime]
    pending: list[str]
    without_rights: list[DatabaseRole]
    size_bytes: int


def shipped() -> list[Migration]:
    """Return the migrations of this package, in order."""
    folder = files("deltadex.store") / "migrations"
    entries = (entry for entry in folder.iterdir() if _NUMBERED.fullmatch(entry.name))
    return [Migration(entry.name, entry.read_bytes()) for entry in sorted(entries, key=lambda entry: entry.name)]


def migrate(
    database: Database, *, logins: Mapping[DatabaseRole, str] | None = None, up_to: str | None = None
) -> list[str]:
    """Apply all pending migrations in one transaction and return their names.

    Safe to call from several processes at the same time: one migrates, the others wait and have nothing to do.

    Parameters
    ----------
    logins
        Connection strings of the services, whose users are created with these passwords.
    up_to
        Name of the last migration to apply, without rights of the roles; default: all.

    Raises
    ------
    StoreError
        pgvector is missing or too old, rights are missing, a migration was changed after it was applied, or the
        database was created by a newer Deltadex or by one from before the first release.
    """
    with database.connect() as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        _require_server(connection)
        _create_vector(connection)
        require_vector(connection)
        _create_schema(connection)
        missing = [one for one in pending(connection) if up_to is None or one.name <= up_to]
        for migration in missing:
            connection.execute(migration.sql)
            connection.execute(
                "insert into schema_migrations (name, checksum) values (%s, %s)", [migration.name, migration.checksum]
            )
            log.info("migrated name=%s", migration.name)
        if up_to is not None:
            return [migration.name for migration in missing]
        roles.grant(connection)
        with _explained("The logins of the services could not be made", hint="docs/store.md says what to run instead."):
            roles.create_logins(connection, logins or {})
    return [migration.name for migration in missing]


def read_status(database: Database) -> MigrationStatus:
    """Read the state of a database without changing it.

    Raises
    ------
    StoreError
        Postgres is unavailable, or the applied migrations are not those of this Deltadex.
    """
    with database.connect() as connection:
        has_tables = connection.execute("select to_regclass('deltadex.schema_migrations')").fetchone() != (None,)
        vector = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
        applied, owner, size = _read_tables(connection) if has_tables else ({}, None, 0)
        return MigrationStatus(
            server=_server(connection),
            vector=str(vector[0]) if vector else None,
            owner=owner,
            applied=applied,
            pending=[migration.name for migration in (pending(connection) if has_tables else shipped())],
            without_rights=roles.without_rights(connection) if has_tables else list(DatabaseRole),
            size_bytes=size,
        )


def _read_tables(connection: Connection) -> tuple[dict[str, datetime], str, int]:
    """Return the applied migrations, and the owner and size in bytes of the tables."""
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
    """Return the migrations that are not applied yet, in order.

    Raises
    ------
    StoreError
        The applied migrations are not those of this Deltadex.
    """
    applied: dict[str, str] = dict(connection.execute("select name, checksum from schema_migrations").fetchall())
    ours = {migration.name: migration for migration in shipped()}
    if unknown := sorted(applied.keys() - ours):
        raise _unknown_migration(unknown[0], is_newer=ours.keys() <= applied.keys())
    for name, checksum in sorted(applied.items()):
        if ours[name].checksum != checksum:
            raise StoreError(
                f"{name} is not what was applied to this database",
                hint=f"Install an unchanged release of Deltadex, or start over: {_START_OVER}",
            )
    return [migration for name, migration in ours.items() if name not in applied]


def _unknown_migration(unknown: str, *, is_newer: bool) -> StoreError:
    """Return the error for a migration that this Deltadex does not have.

    A newer Deltadex has applied all of our migrations before its own.
    """
    if is_newer:
        return StoreError(f"The database is newer than this Deltadex: it has {unknown}", hint="Upgrade Deltadex.")
    return StoreError(
        f"The database was created by a Deltadex from before the first release: it has {unknown}",
        hint=f"Its tables can't be migrated. Start over: {_START_OVER}",
    )


def require_vector(connection: Connection) -> str:
    """Return the version of pgvector in this database.

    Raises
    ------
    StoreError
        pgvector is missing or too old.
    """
    row = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    if row is None:
        raise StoreError("This database has no pgvector yet", hint="Run `deltadex init`.")
    version = str(row[0])
    if tuple(int(part) for part in re.findall(r"\d+", version)) < MINIMUM_PGVECTOR:
        least = ".".join(map(str, MINIMUM_PGVECTOR))
        raise StoreError(
            f"pgvector {version} is too old, {least} is needed",
            hint="Install a newer version on the server, then `ALTER EXTENSION vector UPDATE` in this database.",
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
    with _explained(
        "pgvector could not be enabled", hint="Install pgvector, then run `CREATE EXTENSION vector` as a superuser."
    ):
        connection.execute("create extension if not exists vector")


def _create_schema(connection: Connection) -> None:
    """Create a separate schema, because MLflow also has a table `model_versions`."""
    with _explained("The schema `deltadex` could not be made", hint="Grant CREATE on the database to this user."):
        # `create schema if not exists` needs the right to create even if the schema exists.
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
