"""Connections to Postgres, and its errors in our words."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from deltadex.errors import StoreError
from deltadex.store.migrate import pending, require_vector

#: What the queries of this package take; whoever opened it commits or rolls back.
Transaction = psycopg.Connection

_CONNECT_SECONDS = 3
_POOL_SECONDS = 5.0
_OPTIONS: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "application_name": "deltadex"}
_INIT = "Run `deltadex init`."

#: The pool logs every failed attempt as a warning; we answer with an error that says the same once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class Database:
    """The store's Postgres. Nothing is connected before the first transaction.

    Parameters
    ----------
    url
        Connection string (`postgresql://…`); never logged, and its password is in no error.
    pool_size
        Connections that this process holds at most.

    Attributes
    ----------
    url
        As given, with its password.
    """

    def __init__(self, url: str, *, pool_size: int = 4) -> None:
        self.url = url
        self._pool_size = pool_size
        self._pool: ConnectionPool | None = None
        self._opening = threading.Lock()
        self._address = _address(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; a later transaction opens new ones."""
        with self._opening:
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Give a connection that commits at the end of the block, or rolls back when an error leaves it.

        Raises
        ------
        StoreError
            Postgres is away (retryable), the tables are missing, or it refused a statement. Errors of the block
            that are not Postgres's pass through.
        """
        with self._translated(), self._open_pool().connection() as connection:
            yield connection

    @contextmanager
    def connect(self) -> Iterator[Transaction]:
        """Give a connection of its own that needs no tables and knows no vectors; commits like `transaction`."""
        with self._translated(), self._connect() as connection:
            _find_tables(connection)
            yield connection

    def check(self) -> str:
        """Return a line about server, pgvector and schema.

        Raises
        ------
        StoreError
            Postgres is away, pgvector is missing or too old, or migrations are missing.
        """
        with self.connect() as connection:
            vector = require_vector(connection)
            missing = pending(connection)
            server = connection.info.server_version
        if missing:
            raise StoreError(f"The tables in {self._address} are out of date: {missing[0].name} is missing", hint=_INIT)
        return f"PostgreSQL {server // 10_000}.{server % 10_000}, pgvector {vector}, tables up to date"

    def _open_pool(self) -> ConnectionPool:
        with self._opening:
            if self._pool is None:
                # The pool connects in the background and tells nobody why it can't: ask once ourselves.
                with self._connect() as connection:
                    require_vector(connection)
                self._pool = ConnectionPool(
                    self.url,
                    kwargs=_OPTIONS,
                    min_size=0,
                    max_size=self._pool_size,
                    open=True,
                    configure=_configure,
                    check=ConnectionPool.check_connection,
                    timeout=_POOL_SECONDS,
                    # Longer would only mean longer pauses between attempts, also once Postgres is back.
                    reconnect_timeout=_POOL_SECONDS,
                )
            return self._pool

    def _connect(self) -> Transaction:
        return psycopg.connect(self.url, **_OPTIONS)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.OperationalError as error:
            raise self._unavailable(error) from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise StoreError(f"The tables in {self._address} are missing: {_first_line(error)}", hint=_INIT) from error
        except psycopg.Error as error:
            raise StoreError(
                f"Postgres at {self._address} refused: {_first_line(error)}",
                hint="`deltadex doctor` checks the schema.",
            ) from error

    def _unavailable(self, error: psycopg.OperationalError) -> StoreError:
        hint = "Is it running and reachable? `deltadex doctor` checks every connection."
        if isinstance(error, PoolTimeout):
            try:
                self._connect().close()
                hint = "All connections are in use: raise DELTADEX_DATABASE__POOL_SIZE."
            except psycopg.OperationalError as reason:
                error = reason
        return StoreError(f"Postgres at {self._address}: {_first_line(error)}", hint=hint, retryable=True)


def _configure(connection: Transaction) -> None:
    _find_tables(connection)
    register_vector(connection)
    connection.commit()


def _find_tables(connection: Transaction) -> None:
    """Look into our schema first, and last into the one where somebody may have put pgvector."""
    connection.execute(
        """
        select set_config('search_path', concat_ws(', ', 'deltadex', nullif(current_setting('search_path'), ''), (
            select quote_ident(nspname) from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
            where extname = 'vector')), false)
        """
    )


def _address(url: str) -> str:
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # libpq quotes what it could not read, password included.
        raise StoreError(
            "The database URL can't be read", hint="It looks like postgresql://user:password@host:5432/database."
        ) from None
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n", 1)[0]
