"""Queries of searches by examples: requests, progress and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import LiteralString

from pgvector import Vector
from psycopg.types.json import Jsonb

from deltadex.asked.queries import REQUEST_COLUMNS, RequestRow, Requests
from deltadex.engine.examples import Example, digest, from_json, to_json
from deltadex.store.database import Transaction
from deltadex.types import FloatArray

SEARCHES = Requests("search", table="task_searches", function="ask_task_search", given="examples")
_COLUMNS: LiteralString = (
    REQUEST_COLUMNS
    + """
    base_name, examples_digest, examples_count, flow_run_id, recipe_digest, vector, strength, probe_agreement, weakness,
    halves, halves_planned
"""
)


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
    halves
        Vectors of adapters that were trained on halves of the examples, as many as are trained by now.
    halves_planned
        How many halves will be trained.
    """

    recipe_digest: str
    vector: FloatArray
    strength: float
    probe_agreement: float
    weakness: str
    halves: tuple[FloatArray, ...] = ()
    halves_planned: int = 0


@dataclass(frozen=True)
class SearchRow(RequestRow):
    """One search.

    Attributes
    ----------
    delta
        Result; None unless the search is done.
    """

    base_name: str
    examples_digest: str
    examples_count: int
    flow_run_id: str | None
    delta: TaskDelta | None = None

    @property
    def is_repeating(self) -> bool:
        """True if the search is done and halves of its examples are still to be trained."""
        return self.delta is not None and len(self.delta.halves) < self.delta.halves_planned


def ask(tx: Transaction, registry: str, base_name: str, examples: Sequence[Example], *, by: str) -> int:
    """Store a search for a flow to run, and return its id."""
    return SEARCHES.ask(tx, registry, base_name, Jsonb(to_json(examples)), digest(examples), by)


def get(tx: Transaction, registry: str, search_id: int) -> SearchRow:
    """Return one search.

    Raises
    ------
    StoreError
        The registry has no search with this id.
    """
    columns = SEARCHES.row(tx, _COLUMNS, registry, search_id)
    *common, recipe_digest, vector, strength, agreement, weakness, halves, planned = columns
    row = SearchRow(*common)
    if vector is None:
        return row
    vectors = (one.to_numpy() for one in (vector, *halves))
    delta = TaskDelta(recipe_digest, next(vectors), strength, agreement, weakness, tuple(vectors), planned)
    return replace(row, delta=delta)


def begin(tx: Transaction, search_id: int, *, flow_run_id: str) -> tuple[Example, ...] | None:
    """Begin a search, or begin it again, and return its examples; None if it has ended."""
    examples = SEARCHES.begin(tx, search_id, flow_run_id=flow_run_id)
    return None if examples is None else from_json(examples)


def finish(tx: Transaction, search_id: int, delta: TaskDelta, *, seconds: float) -> bool:
    """End a search with its result; return False if it has already ended."""
    return SEARCHES.finish(
        tx,
        search_id,
        {
            "recipe_digest": delta.recipe_digest,
            "vector": Vector(delta.vector),
            "strength": delta.strength,
            "probe_agreement": delta.probe_agreement,
            "weakness": delta.weakness,
            "halves_planned": delta.halves_planned,
            "seconds": seconds,
        },
    )


def add_half(tx: Transaction, search_id: int, vector: FloatArray) -> None:
    """Add the vector of a half of the examples to the result of a search."""
    tx.execute(
        "update task_searches set halves = halves || %s::vector, state_since = clock_timestamp() where id = %s",
        [Vector(vector), search_id],
    )


def stop_halves(tx: Transaction, search_id: int) -> None:
    """Plan no more halves than are trained by now."""
    tx.execute("update task_searches set halves_planned = cardinality(halves) where id = %s", [search_id])
