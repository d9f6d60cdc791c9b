"""Connections to Postgres, and its errors in our words."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool, PoolTimeout

from deltadex.errors import StoreError
from deltadex.store.migrate import pending, require_vector

#: What the queries of this package take; whoever opened it commits or rolls back.
Transaction = psycopg.Connection

_CONNECT_SECONDS = 3
_POOL_SECONDS = 5.0
_OPTIONS: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "application_name": "deltadex"}
_INIT = "Run `deltadex init`."
_CHANNEL = "deltadex"

#: Attempts at one transaction, and the longest pause after the first; it doubles with each.
_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05
#: Deadlocks and serialization failures: Postgres has rolled back, and asks to do it again.
_ROLLED_BACK = "40"
#: Connection exceptions, and a server that was told to stop or has crashed.
_LOST = ("08", "57P01", "57P02")

#: The pool logs every failed attempt as a warning; we answer with an error that says the same once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

_Result = TypeVar("_Result")
log = logging.getLogger(__name__)


class Database:
    """The store's Postgres. Nothing is connected before the first transaction.

    Parameters
    ----------
    url
        Connection string (`postgresql://…`); never logged, and its password is in no error.
    pool_size
        Connections that this process holds at most.
    role
        What every connection acts as; a role of its user, such as those of roles.py. None: as the user itself.

    Attributes
    ----------
    url
        As given, with its password.
    """

    def __init__(self, url: str, *, pool_size: int = 4, role: str | None = None) -> None:
        self.url = url
        self._pool_size = pool_size
        self._role = role
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

    def run(self, function: Callable[[Transaction], _Result]) -> _Result:
        """Give a transaction to a function, commit, and return its result; repeat all of it where Postgres asks to.

        That is after deadlocks and serialization failures, and when the connection was lost before the commit began,
        with random pauses in between. After one that is lost within the commit nobody knows whether it happened: that
        error, like every other, is raised at once.

        Parameters
        ----------
        function
            Has no effects outside the transaction, or none that matter when it is called again.

        Raises
        ------
        StoreError
            As `transaction`.
        """
        with self._translated():
            for attempt in range(_ATTEMPTS - 1):
                done = _Progress()
                try:
                    return self._once(function, done)
                except psycopg.OperationalError as error:
                    if not done.may_repeat(error):
                        raise
                    log.info("transaction repeated attempt=%d error=%s", attempt + 1, type(error).__name__)
                time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311 - no secret
            return self._once(function, _Progress())

    def changes(self, *, every_seconds: float) -> Iterator[None]:
        """Yield now, whenever versions or findings have changed, and at the latest after so many seconds.

        Word comes by LISTEN on a connection of its own. Where that does not arrive (a pooler between us and Postgres),
        this is a poll.

        Raises
        ------
        StoreError
            Postgres is away.
        """
        with self._translated(), self._connect() as connection:
            connection.autocommit = True
            connection.execute(SQL("listen {}").format(Identifier(_CHANNEL)))
            while True:
                yield
                # Ends with the first, and takes along whatever came together with it.
                for _ in connection.notifies(timeout=every_seconds, stop_after=1):
                    pass

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
                    configure=self._configure,
                    check=ConnectionPool.check_connection,
                    timeout=_POOL_SECONDS,
                    # Longer would only mean longer pauses between attempts, also once Postgres is back.
                    reconnect_timeout=_POOL_SECONDS,
                )
            return self._pool

    def _once(self, function: Callable[[Transaction], _Result], done: _Progress) -> _Result:
        with self._open_pool().connection() as connection:
            done.connected = True
            result = function(connection)
            done.called = True
        return result

    def _connect(self) -> Transaction:
        connection = psycopg.connect(self.url, **_OPTIONS)
        try:
            self._act_as_role(connection)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def _configure(self, connection: Transaction) -> None:
        self._act_as_role(connection)
        _find_tables(connection)
        register_vector(connection)
        connection.commit()

    def _act_as_role(self, connection: Transaction) -> None:
        if self._role is not None:
            connection.execute("select set_config('role', %s, false)", [self._role])
            connection.commit()

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
                hint=error.diag.message_hint or "`deltadex doctor` checks the schema.",
            ) from error

    def _unavailable(self, error: psycopg.OperationalError) -> StoreError:
        hint = "Is it running and reachable? `deltadex doctor` checks every connection."
        if _state(error).startswith(_ROLLED_BACK):
            hint = "Others were writing the same. Try again."
        if isinstance(error, PoolTimeout):
            try:
                self._connect().close()
                hint = "All connections are in use: raise this service's DELTADEX_DATABASE__…POOL_SIZE."
            except psycopg.OperationalError as reason:
                error = reason
        return StoreError(f"Postgres at {self._address}: {_first_line(error)}", hint=hint, retryable=True)


class _Progress:
    """How far an attempt at a transaction came."""

    connected = False
    called = False

    def may_repeat(self, error: psycopg.OperationalError) -> bool:
        if _state(error).startswith(_ROLLED_BACK):
            return True
        # libpq gives no state for a connection that broke.
        is_lost = not _state(error) or _state(error).startswith(_LOST)
        return self.connected and not self.called and is_lost


def _state(error: psycopg.Error) -> str:
    return error.sqlstate or ""


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
