"""Queries of searches by examples: requests, progress and results.

Every state change is guarded in SQL: a late or repeated call changes nothing and returns False.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString

from pgvector import Vector
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.engine.examples import Example, digest, from_json, to_json
from deltadex.errors import StoreError
from deltadex.store.database import Transaction
from deltadex.types import FloatArray

_COLUMNS: LiteralString = """
    id, registry, base_name, examples_digest, examples_count, asked_by, asked_at, state, state_since, progress, reason,
    hint, flow_run_id, seconds, recipe_digest, vector, strength, probe_agreement, weakness
"""


class SearchState(StrEnum):
    """State of a search."""

    ASKED = "asked"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


_OVER = [SearchState.DONE.value, SearchState.FAILED.value]


@dataclass(frozen=True, eq=False)
class TaskDelta:
    """Delta of an adapter that was trained on a task's examples.

    Attributes
    ----------
    vector
        `(dimension,)` float32, not normalised.
    strength, probe_agreement
        See `deltadex.types.Embedding`.
    weakness
        Reason why it is too weak to place; empty if it is not.
    """

    recipe_digest: str
    vector: FloatArray
    strength: float
    probe_agreement: float
    weakness: str


@dataclass(frozen=True)
class SearchRow:
    """One search.

    Attributes
    ----------
    progress
        Share of the work that is done.
    seconds
        Duration of the flow; None before its end.
    delta
        Result; None unless the search is done.
    """

    id: int
    registry: str
    base_name: str
    examples_digest: str
    examples_count: int
    asked_by: str
    asked_at: datetime
    state: SearchState
    state_since: datetime
    progress: float
    reason: str
    hint: str
    flow_run_id: str | None
    seconds: float | None
    delta: TaskDelta | None = None

    @property
    def is_over(self) -> bool:
        """True if the search is done or failed."""
        return self.state in (SearchState.DONE, SearchState.FAILED)


def ask(tx: Transaction, registry: str, base_name: str, examples: Sequence[Example], *, by: str) -> int:
    """Store a search for a flow to run, and return its id."""
    row = tx.execute(
        "select ask_task_search(%s, %s, %s, %s, %s)",
        [registry, base_name, Jsonb(to_json(examples)), digest(examples), by],
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    return int(row[0])


def get(tx: Transaction, registry: str, search_id: int) -> SearchRow:
    """Return one search.

    Raises
    ------
    StoreError
        The registry has no search with this id.
    """
    found = _rows(tx, "id = %s and registry = %s", [search_id, registry])
    if not found:
        raise StoreError(f"There is no search with id {search_id}", hint="Check that the link is complete.")
    return found[0]


def unfinished(tx: Transaction, registry: str, *, by: str) -> int:
    """Return the number of a person's searches that have not ended."""
    row = tx.execute(
        "select count(*) from task_searches where registry = %s and asked_by = %s and state <> all(%s)",
        [registry, by, _OVER],
    ).fetchone()
    return int(row[0]) if row else 0


def waiting(tx: Transaction, registry: str) -> list[SearchRow]:
    """Return the searches without a flow run, oldest first."""
    return _rows(tx, "registry = %s and state = 'asked' order by id", [registry])


def mark_queued(tx: Transaction, search_id: int, *, flow_run_id: str) -> bool:
    """Store the flow run of a search; return False if the search has already begun."""
    return _move(tx, search_id, SearchState.QUEUED, "flow_run_id = %s where state = 'asked'", [flow_run_id])


def begin(tx: Transaction, search_id: int, *, flow_run_id: str) -> tuple[Example, ...] | None:
    """Begin a search, or begin it again, and return its examples; None if it has ended."""
    if not _move(
        tx, search_id, SearchState.RUNNING, "flow_run_id = %s, progress = 0 where examples is not null", [flow_run_id]
    ):
        return None
    row = tx.execute("select examples from task_searches where id = %s", [search_id]).fetchone()
    return from_json(row[0]) if row else None


def advance(tx: Transaction, search_id: int, progress: float) -> None:
    """Store the share of the work that is done."""
    tx.execute("update task_searches set progress = %s where id = %s and state = 'running'", [progress, search_id])


def finish(tx: Transaction, search_id: int, delta: TaskDelta, *, seconds: float) -> bool:
    """End a search with its result; return False if it has already ended."""
    return _move(
        tx,
        search_id,
        SearchState.DONE,
        """
        examples = null, progress = 1, recipe_digest = %s, vector = %b, strength = %s, probe_agreement = %s,
        weakness = %s, seconds = %s where state = 'running'
        """,
        [delta.recipe_digest, Vector(delta.vector), delta.strength, delta.probe_agreement, delta.weakness, seconds],
    )


def fail(tx: Transaction, search_id: int, *, reason: str, hint: str) -> bool:
    """End a search with an error; return False if it has already ended."""
    changes = "examples = null, reason = %s, hint = %s where examples is not null"
    return _move(tx, search_id, SearchState.FAILED, changes, [reason, hint])


def fail_silent(tx: Transaction, registry: str, *, after_seconds: float) -> int:
    """Fail the searches that have been queued or running for too long; return their number."""
    return tx.execute(
        """
        update task_searches set state = 'failed', state_since = now(), examples = null,
            reason = 'its flow run died, or no worker took it',
            hint = 'Search again; `deltadex doctor` checks the workers.'
        where registry = %s and state in ('queued', 'running') and state_since < now() - make_interval(secs => %s)
        """,
        [registry, after_seconds],
    ).rowcount


def _move(tx: Transaction, search_id: int, state: SearchState, rest: LiteralString, values: Sequence[object]) -> bool:
    query = (
        SQL("update task_searches set state = %s, state_since = clock_timestamp(), ") + SQL(rest) + SQL(" and id = %s")
    )
    return tx.execute(query, [state, *values, search_id]).rowcount == 1


def _rows(tx: Transaction, condition: LiteralString, parameters: Sequence[object]) -> list[SearchRow]:
    query = SQL("select ") + SQL(_COLUMNS) + SQL(" from task_searches where ") + SQL(condition)
    return [_row(*values) for values in tx.execute(query, parameters, binary=True)]


def _row(*values: Any) -> SearchRow:
    *common, digest, vector, strength, agreement, weakness = values
    row = SearchRow(*common)
    delta = None if vector is None else TaskDelta(digest, vector.to_numpy(), strength, agreement, weakness)
    return replace(row, state=SearchState(row.state), delta=delta)
