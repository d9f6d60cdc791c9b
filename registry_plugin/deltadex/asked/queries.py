"""Requests for work, from the question to its end: the same states for every table of them.

Every state change is guarded in SQL: a late or repeated call changes nothing and returns False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString

from psycopg.sql import SQL, Composable, Composed, Identifier, Placeholder

from deltadex.errors import StoreError
from deltadex.store.database import Transaction


class AskedState(StrEnum):
    """State of a request."""

    ASKED = "asked"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """True if the work is done or failed."""
        return self in (AskedState.DONE, AskedState.FAILED)


_OVER = [state.value for state in AskedState if state.is_over]


@dataclass(frozen=True)
class Waiting:
    """A request without a flow run."""

    id: int
    asked_at: datetime


#: Columns of every table of requests, in the order of `RequestRow`.
REQUEST_COLUMNS: LiteralString = (
    "id, registry, asked_by, asked_at, state, state_since, progress, reason, hint, seconds, "
)


@dataclass(frozen=True)
class RequestRow:
    """One request, without what was asked for and what came of it.

    Attributes
    ----------
    progress
        Share of the work that is done.
    reason, hint
        Why the work failed, and what to do about it.
    seconds
        Duration of the flow; None before its end.
    """

    id: int
    registry: str
    asked_by: str
    asked_at: datetime
    state: AskedState
    state_since: datetime
    progress: float
    reason: str
    hint: str
    seconds: float | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", AskedState(self.state))

    @property
    def is_over(self) -> bool:
        """True if the work is done or failed."""
        return self.state.is_over


@dataclass(frozen=True)
class Requests:
    """A table of requests.

    Attributes
    ----------
    noun
        What is asked for, for messages.
    table, function
        Names of the table, and of the function in the database that adds a request to it.
    given
        Column with what the flow reads, such as examples; null once the request has ended.
    heard_at
        Column with the time of the last sign of life of a run.
    """

    noun: LiteralString
    table: LiteralString
    function: LiteralString
    given: LiteralString
    heard_at: LiteralString = "state_since"

    def ask(self, tx: Transaction, *values: object) -> int:
        """Store a request for a flow to run, of values that the function takes, and return its id."""
        places = SQL(", ").join([Placeholder()] * len(values))
        query = SQL("select {}({})").format(Identifier(self.function), places)
        row = tx.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - a select without a table has one row
        return int(row[0])

    def latest(
        self, tx: Transaction, columns: LiteralString, condition: LiteralString, values: Sequence[object],
        *, states: Sequence[AskedState],
    ) -> tuple[Any, ...] | None:  # fmt: skip
        """Return these columns of the latest request in one of these states that meets a condition."""
        rest: LiteralString = condition + " and state = any(%s) order by id desc limit 1"
        found = self.rows(tx, columns, rest, [*values, [state.value for state in states]])
        return found[0] if found else None

    def rows(
        self, tx: Transaction, columns: LiteralString, rest: LiteralString, parameters: Sequence[object]
    ) -> list[tuple[Any, ...]]:
        """Return these columns of the rows that meet the rest of the query, a condition first."""
        query = SQL("select ") + SQL(columns) + SQL(" from ") + self._name + SQL(" where ") + SQL(rest)
        return tx.execute(query, parameters, binary=True).fetchall()

    def row(self, tx: Transaction, columns: LiteralString, registry: str, request_id: int) -> tuple[Any, ...]:
        """Return these columns of one request.

        Raises
        ------
        StoreError
            The registry has no such request.
        """
        found = self.rows(tx, columns, "id = %s and registry = %s", [request_id, registry])
        if not found:
            raise StoreError(f"There is no {self.noun} with id {request_id}", hint="Check that the link is complete.")
        return found[0]

    def unfinished(self, tx: Transaction, registry: str, *, by: str) -> int:
        """Return the number of a person's requests that have not ended."""
        condition: LiteralString = "registry = %s and asked_by = %s and state <> all(%s)"
        return len(self.rows(tx, "id", condition, [registry, by, _OVER]))

    def waiting(self, tx: Transaction, registry: str) -> list[Waiting]:
        """Return the requests without a flow run, oldest first."""
        found = self.rows(tx, "id, asked_at", "registry = %s and state = 'asked' order by id", [registry])
        return [Waiting(*values) for values in found]

    def under_way(self, tx: Transaction, registry: str) -> dict[int, str]:
        """Return the flow runs of the requests that have one and have not ended, by the request's id."""
        return dict(self.rows(tx, "id, flow_run_id", "registry = %s and state in ('queued', 'running')", [registry]))

    def mark_queued(self, tx: Transaction, request_id: int, *, flow_run_id: str) -> bool:
        """Store the flow run of a request; return False if the work has already begun."""
        return self._move(tx, request_id, AskedState.QUEUED, {"flow_run_id": flow_run_id}, where=SQL("state = 'asked'"))

    def begin(self, tx: Transaction, request_id: int, *, flow_run_id: str) -> Any | None:
        """Begin the work, or begin it again, and return what was given; None if it has ended."""
        changes = {"flow_run_id": flow_run_id, "progress": 0}
        if not self._move(tx, request_id, AskedState.RUNNING, changes, where=self._has_given):
            return None
        query = SQL("select {} from {} where id = %s").format(Identifier(self.given), self._name)
        row = tx.execute(query, [request_id]).fetchone()
        return row and row[0]

    def advance(self, tx: Transaction, request_id: int, progress: float) -> None:
        """Store the share of the work that is done."""
        query = SQL("update {} set progress = %s where id = %s and state = 'running'").format(self._name)
        tx.execute(query, [progress, request_id])

    def beat(self, tx: Transaction, request_id: int, *, flow_run_id: str) -> bool:
        """Store a sign of life of a run; return False if the work has ended, or another run does it."""
        query = SQL("update {} set {} = clock_timestamp() where id = %s and flow_run_id = %s and state = 'running'")
        changed = tx.execute(query.format(self._name, Identifier(self.heard_at)), [request_id, flow_run_id])
        return changed.rowcount == 1

    def finish(self, tx: Transaction, request_id: int, result: Mapping[LiteralString, object]) -> bool:
        """End the work with values of its result by column; return False if it has already ended."""
        changes = {self.given: None, "progress": 1, **result}
        return self._move(tx, request_id, AskedState.DONE, changes, where=SQL("state = 'running'"))

    def fail(self, tx: Transaction, request_id: int, *, reason: str, hint: str) -> bool:
        """End the work with an error; return False if it has already ended."""
        changes = {self.given: None, "reason": reason, "hint": hint}
        return self._move(tx, request_id, AskedState.FAILED, changes, where=self._has_given)

    def fail_silent(self, tx: Transaction, registry: str, *, queued_seconds: float, silent_seconds: float) -> int:
        """Fail the requests that no worker took, or whose run gives no sign of life; return their number."""
        query = SQL(
            """
            update {table} set state = 'failed', state_since = clock_timestamp(), {given} = null,
                reason = 'its flow run died, or no worker took it',
                hint = 'Ask again; `deltadex doctor` checks the workers.'
            where registry = %s and (state = 'queued' and state_since < now() - make_interval(secs => %s)
                or state = 'running' and {heard_at} < now() - make_interval(secs => %s))
            """
        ).format(table=self._name, given=Identifier(self.given), heard_at=Identifier(self.heard_at))
        return tx.execute(query, [registry, queued_seconds, silent_seconds]).rowcount

    @property
    def _name(self) -> Identifier:
        return Identifier(self.table)

    @property
    def _has_given(self) -> Composed:
        return SQL("{} is not null").format(Identifier(self.given))

    def _move(
        self, tx: Transaction, request_id: int, state: AskedState, values: Mapping[str, object], *, where: Composable
    ) -> bool:
        clocks = SQL(", ").join(
            SQL("{} = clock_timestamp()").format(Identifier(name)) for name in {"state_since", self.heard_at}
        )
        changes = SQL(", ").join(SQL("{} = %s").format(Identifier(name)) for name in values)
        query = SQL("update {} set state = %s, {}, {} where id = %s and {}").format(self._name, clocks, changes, where)
        return tx.execute(query, [state.value, *values.values(), request_id]).rowcount == 1
