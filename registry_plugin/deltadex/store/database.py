"""Connections to Postgres, and conversion of its errors."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier
from psycopg.types.json import set_json_dumps
from psycopg_pool import ConnectionPool, PoolTimeout

from deltadex.errors import StoreError
from deltadex.escaping import storable_json
from deltadex.store.migrate import pending, require_vector
from deltadex.store.transport import HINT, tls_fault, transport

#: A connection within a transaction; the code that opened it commits or rolls back.
Transaction = psycopg.Connection

_CONNECT_SECONDS = 3
_POOL_SECONDS = 5.0
#: Age at which a pooled connection is replaced, or closed if it is idle. Told to stop by SIGTERM, Postgres takes no new
#: connections and waits until the old ones are closed: ours would keep it waiting, and all other clients out.
_LIFETIME_SECONDS = 60.0
_OPTIONS: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "application_name": "deltadex"}
_INIT = "Run `deltadex init`."
_CHANNEL = "deltadex"

#: Attempts at one transaction, and the maximum pause after the first attempt; it doubles with each attempt.
_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05
#: SQLSTATE class of deadlocks and serialization failures: Postgres has rolled back, and a retry is safe.
_ROLLED_BACK = "40"
#: SQLSTATEs of lost connections, and of a server that is stopping or has crashed.
_LOST = ("08", "57P01", "57P02")

#: The pool logs every failed attempt as a warning; we raise one error instead.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

_Result = TypeVar("_Result")
log = logging.getLogger(__name__)


class Database:
    """The store's Postgres database. It connects at the first transaction.

    Parameters
    ----------
    url
        Connection string (`postgresql://…`). It is never logged, and errors never contain its password.
    pool_size
        Maximum number of pooled connections of this process.
    role
        Role that every connection sets, such as those of `deltadex.store.roles`; None keeps the user's own.

    Attributes
    ----------
    url
        Connection string with its password.
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
        """Close all connections; a later transaction reconnects."""
        with self._opening:
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a connection that commits at the end of the block and rolls back on errors.

        Raises
        ------
        StoreError
            Postgres is unavailable (retryable), the tables are missing, or Postgres rejected a statement. Other
            errors of the block pass through.
        """
        with self._store_errors(), self._open_pool().connection() as connection:
            yield connection

    def run(self, function: Callable[[Transaction], _Result]) -> _Result:
        """Call a function in a transaction, commit, and return its result; retry after transient failures.

        The whole call is repeated, with random pauses, after deadlocks and serialization failures, and if the
        connection was lost before the commit began. All other errors are raised at once. So is the loss of a connection
        during the commit, because the commit may have succeeded.

        Parameters
        ----------
        function
            Function that may be called repeatedly, without harmful effects outside the transaction.

        Raises
        ------
        StoreError
            As `transaction`.
        """
        with self._store_errors():
            for attempt in range(_ATTEMPTS - 1):
                progress = _Progress()
                try:
                    return self._once(function, progress)
                except psycopg.OperationalError as error:
                    if not progress.may_repeat(error):
                        raise
                    log.info("transaction repeated attempt=%d error=%s", attempt + 1, type(error).__name__)
                time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311 - no secret
            return self._once(function, _Progress())

    def changes(self, *, every_seconds: float) -> Generator[None, None, None]:
        """Yield at once, then after each change of versions or findings, and at least every `every_seconds`.

        Uses LISTEN on a separate connection. Behind a connection pooler that drops notifications, it only polls.

        Raises
        ------
        StoreError
            Postgres is unavailable.
        """
        with self._store_errors(), self._connect() as connection:
            connection.autocommit = True
            connection.execute(SQL("listen {}").format(Identifier(_CHANNEL)))
            while True:
                yield
                # Returns at the first notification, with all others received together with it.
                if not list(connection.notifies(timeout=every_seconds, stop_after=1)):
                    self._connect().close()  # fails if Postgres is waiting for us

    @contextmanager
    def connect(self) -> Iterator[Transaction]:
        """Yield an unpooled connection that needs no tables and has no vector types; commits like `transaction`."""
        with self._store_errors(), self._connect() as connection:
            _set_search_path(connection)
            yield connection

    def check(self) -> str:
        """Return one line about the server, pgvector and the schema.

        Raises
        ------
        StoreError
            Postgres is unavailable, pgvector is missing or too old, or migrations are missing.
        """
        with self.connect() as connection:
            vector = require_vector(connection)
            missing, server, how = pending(connection), connection.info.server_version, transport(connection)
        if missing:
            raise StoreError(f"The tables in {self._address} are out of date: {missing[0].name} is missing", hint=_INIT)
        return f"PostgreSQL {server // 10_000}.{server % 10_000}, pgvector {vector}, tables up to date, {how}"

    def _open_pool(self) -> ConnectionPool:
        with self._opening:
            if self._pool is None:
                # The pool connects in the background and hides the reason of a failure, so connect once directly.
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
                    max_lifetime=_LIFETIME_SECONDS,
                    max_idle=_LIFETIME_SECONDS,
                    # A longer timeout would only lengthen the pauses between attempts, even once Postgres is back.
                    reconnect_timeout=_POOL_SECONDS,
                )
            return self._pool

    def _once(self, function: Callable[[Transaction], _Result], progress: _Progress) -> _Result:
        with self._open_pool().connection() as connection:
            progress.connected = True
            result = function(connection)
            progress.called = True
        return result

    def _connect(self) -> Transaction:
        connection = psycopg.connect(self.url, **_OPTIONS)
        try:
            self._act_as_role(connection)
        except psycopg.Error:
            connection.close()
            raise
        set_json_dumps(storable_json, connection)
        return connection

    def _configure(self, connection: Transaction) -> None:
        self._act_as_role(connection)
        _set_search_path(connection)
        register_vector(connection)
        set_json_dumps(storable_json, connection)
        connection.commit()

    def _act_as_role(self, connection: Transaction) -> None:
        if self._role is not None:
            connection.execute("select set_config('role', %s, false)", [self._role])
            connection.commit()

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
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
            hint = "Another process was writing the same rows. Try again."
        if isinstance(error, PoolTimeout):
            try:
                self._connect().close()
                hint = "All connections are in use: raise this service's DELTADEX_DATABASE__…POOL_SIZE."
            except psycopg.OperationalError as reason:
                error = reason
        if fault := tls_fault(str(error)):
            return StoreError(f"Postgres at {self._address}: {fault}", hint=HINT)
        return StoreError(f"Postgres at {self._address}: {_first_line(error)}", hint=hint, retryable=True)


class _Progress:
    """Progress of one attempt at a transaction."""

    connected = False
    called = False

    def may_repeat(self, error: psycopg.OperationalError) -> bool:
        if _state(error).startswith(_ROLLED_BACK):
            return True
        # libpq reports no state for a broken connection.
        is_lost = not _state(error) or _state(error).startswith(_LOST)
        return self.connected and not self.called and is_lost


def _state(error: psycopg.Error) -> str:
    return error.sqlstate or ""


def _set_search_path(connection: Transaction) -> None:
    """Put our schema first in the search path, and pgvector's schema last."""
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
        # libpq quotes the text that it could not parse, password included.
        raise StoreError(
            "The database URL can't be read", hint="Use the form postgresql://user:password@host:5432/database."
        ) from None
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n", 1)[0]
