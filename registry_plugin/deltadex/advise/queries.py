"""Queries of advice: requests, progress and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from deltadex.advise.advice import Advice
from deltadex.asked.queries import REQUEST_COLUMNS, RequestRow, Requests
from deltadex.engine.examples import Example, digest, to_json
from deltadex.engine.examples import from_json as examples_from
from deltadex.engine.messages import as_json, from_json
from deltadex.store.database import Transaction

ADVICE = Requests("advice", table="advice_requests", function="ask_advice", given="examples", heard_at="heard_at")
_COLUMNS: LiteralString = REQUEST_COLUMNS + "base_name, examples_digest, examples_count, wanted, sees, advice"
#: Requests whose time an estimate rests on.
_LATEST = 10


@dataclass(frozen=True)
class AdviceOrder:
    """Options of a request for advice.

    Attributes
    ----------
    candidates
        Ids of the versions to score; empty to find the nearest ones.
    calls_per_month
        None if no volume was stated.
    work
        Example readings that it takes, by `deltadex.advise.estimate.work_of`.
    """

    selector: str
    shots: int
    candidates: tuple[int, ...] = ()
    is_trained: bool = False
    calls_per_month: int | None = None
    work: float = 0.0


@dataclass(frozen=True)
class AdviceRow(RequestRow):
    """One request.

    Attributes
    ----------
    sees
        Patterns of the models that the asker may see.
    advice
        Result; None unless it is done.
    """

    base_name: str
    examples_digest: str
    examples_count: int
    wanted: AdviceOrder
    sees: tuple[str, ...]
    advice: Advice | None


def ask(
    tx: Transaction,
    registry: str,
    base_name: str,
    examples: Sequence[Example],
    wanted: AdviceOrder,
    *,
    sees: Sequence[str],
    by: str,
) -> int:
    """Store a request for a flow to run, and return its id."""
    given = [Jsonb(to_json(examples)), digest(examples), Jsonb(as_json(AdviceOrder, wanted)), list(sees)]
    return ADVICE.ask(tx, registry, base_name, *given, by)


def get(tx: Transaction, registry: str, request_id: int) -> AdviceRow:
    """Return one request.

    Raises
    ------
    StoreError
        The registry has none with this id.
    """
    return _row(*ADVICE.row(tx, _COLUMNS, registry, request_id))


def begin(tx: Transaction, request_id: int, *, flow_run_id: str) -> tuple[Example, ...] | None:
    """Begin an advice, or begin it again, and return its examples; None if it has ended."""
    given = ADVICE.begin(tx, request_id, flow_run_id=flow_run_id)
    return None if given is None else examples_from(given)


def finish(tx: Transaction, request_id: int, advice: Advice, *, seconds: float) -> bool:
    """End an advice with its result; return False if it has already ended."""
    return ADVICE.finish(tx, request_id, {"advice": Jsonb(as_json(Advice, advice)), "seconds": seconds})


def seconds_per_reading(tx: Transaction, registry: str, *, base_name: str | None) -> tuple[float, int] | None:
    """Return the mean seconds per example reading of the latest requests, and their number; None if there are none.

    Parameters
    ----------
    base_name
        Base that they were for; None for any.
    """
    row = tx.execute(
        """
        select sum(seconds) / sum((wanted ->> 'work')::double precision), count(*) from (
            select seconds, wanted from advice_requests
            where registry = %(registry)s and state = 'done' and (wanted ->> 'work')::double precision > 0
                and (%(base)s::text is null or base_name = %(base)s)
            order by id desc limit %(latest)s) as latest
        """,
        {"registry": registry, "base": base_name, "latest": _LATEST},
    ).fetchone()
    return (float(row[0]), int(row[1])) if row and row[1] else None


def _row(*values: Any) -> AdviceRow:
    row = AdviceRow(*values)
    return replace(
        row,
        wanted=from_json(AdviceOrder, row.wanted),
        sees=tuple(row.sees),
        advice=None if row.advice is None else from_json(Advice, row.advice),
    )
