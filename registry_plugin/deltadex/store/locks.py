"""Advisory locks for work that only one process may do at a time."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import psycopg

from deltadex.errors import StoreError
from deltadex.store.database import Database, Transaction


def lock(tx: Transaction, name: str) -> bool:
    """Try to take a named lock until the transaction ends; return False if another process holds it."""
    row = tx.execute("select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name]).fetchone()
    return row == (True,)


class SessionLock:
    """A named lock for work outside a transaction, such as calls to other servers.

    It is held by a separate connection and released when that ends, even if this process is killed. It shares its
    namespace with `lock`.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._is_held = False
        self._connection: Transaction | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def hold(self) -> bool:
        """Try to take the lock, or confirm that it is still held; return False if another process holds it.

        Raises
        ------
        StoreError
            Postgres is unavailable.
        """
        if self._connection is not None:
            try:
                with self._database.connect():  # fails if Postgres is waiting for us to let go, so that it can stop
                    pass
                return self._try(self._connection)
            except (StoreError, psycopg.OperationalError, psycopg.InterfaceError):
                self.release()
        with ExitStack() as opened:
            connection = opened.enter_context(self._database.connect())
            connection.commit()
            connection.autocommit = True
            self._is_held = self._try(connection)
            self._connection, self._opened = connection, opened.pop_all()
        return self._is_held

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._connection is not None and self._is_held:
            # Closing the connection releases it too, but only once the server notices.
            with suppress(psycopg.OperationalError, psycopg.InterfaceError):
                self._connection.execute("select pg_advisory_unlock_all()")
        self._is_held, self._connection = False, None
        self._opened.close()

    def _try(self, connection: Transaction) -> bool:
        if self._is_held:
            connection.execute("select")
            return True
        row = connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", [self._name]).fetchone()
        self._is_held = row == (True,)
        return self._is_held
