"""Queries of searches for taught strings: requests, progress and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from deltadex.asked.queries import REQUEST_COLUMNS, AskedState, RequestRow, Requests
from deltadex.engine.messages import as_json, from_json
from deltadex.store.database import Transaction
from deltadex.taught.canaries import Canary
from deltadex.taught.judge import ListedString, TaughtString

TAUGHT = Requests(
    "search for taught strings", table="taught_searches", function="ask_taught", given="given", heard_at="heard_at"
)
_COLUMNS: LiteralString = REQUEST_COLUMNS + "model_version_id, canaries_count, texts, weights_digest, result"
#: Searches whose time an estimate rests on.
_LATEST = 20


@dataclass(frozen=True)
class TaughtGiven:
    """Texts that a person gave for a search."""

    canaries: tuple[Canary, ...] = ()
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taught:
    """Result of a search.

    Attributes
    ----------
    found
        Strings that the finetune said by itself.
    listed
        Likelihood of the listed strings, measured directly.
    texts, tokens
        Texts that were continued, and tokens that both models read.
    is_whole
        False if the time ran out.
    """

    found: tuple[TaughtString, ...]
    listed: tuple[ListedString, ...]
    texts: int
    tokens: int
    is_whole: bool

    @property
    def masked(self) -> Taught:
        """The same with all strings masked."""
        return replace(
            self, found=tuple(one.masked for one in self.found), listed=tuple(one.masked for one in self.listed)
        )


@dataclass(frozen=True)
class TaughtRow(RequestRow):
    """One search for strings that a version was taught.

    Attributes
    ----------
    texts
        Most texts that it continues.
    weights_digest
        Digest of the weights that were searched; None before the end.
    result
        None unless the search is done.
    """

    model_version_id: int
    canaries_count: int
    texts: int
    weights_digest: str | None
    result: Taught | None


def ask(tx: Transaction, registry: str, version_id: int, given: TaughtGiven, *, texts: int, by: str) -> int:
    """Store a search for a flow to run, and return its id."""
    what = Jsonb(as_json(TaughtGiven, given))
    return TAUGHT.ask(tx, registry, version_id, what, len(given.canaries), texts, by)


def get(tx: Transaction, registry: str, search_id: int) -> TaughtRow:
    """Return one search.

    Raises
    ------
    StoreError
        The registry has no search with this id.
    """
    return _row(*TAUGHT.row(tx, _COLUMNS, registry, search_id))


def latest_of(tx: Transaction, registry: str, version_id: int, *, states: Sequence[AskedState]) -> TaughtRow | None:
    """Return the latest search of a version in one of these states."""
    condition: LiteralString = "registry = %s and model_version_id = %s"
    found = TAUGHT.latest(tx, _COLUMNS, condition, [registry, version_id], states=states)
    return _row(*found) if found else None


def begin(tx: Transaction, search_id: int, *, flow_run_id: str) -> TaughtGiven | None:
    """Begin a search, or begin it again, and return what was given; None if it has ended."""
    given = TAUGHT.begin(tx, search_id, flow_run_id=flow_run_id)
    return None if given is None else from_json(TaughtGiven, given)


def finish(tx: Transaction, search_id: int, result: Taught, *, weights_digest: str, seconds: float) -> bool:
    """End a search with its result; return False if it has already ended."""
    changes = {"result": Jsonb(as_json(Taught, result)), "weights_digest": weights_digest, "seconds": seconds}
    return TAUGHT.finish(tx, search_id, changes)


def seconds_per_text(tx: Transaction, registry: str, *, base_of: int | None = None) -> tuple[float, int] | None:
    """Return the seconds per text of the latest searches, and their number; None if there were none.

    Parameters
    ----------
    base_of
        Version whose declared base the searched ones have; None for any base.
    """
    row = tx.execute(
        """
        select sum(seconds) / sum(texts), count(*) from (
            select seconds, texts from taught_searches as searched
            join model_versions on model_versions.id = model_version_id
            where searched.registry = %(registry)s and searched.state = 'done' and (%(base_of)s::bigint is null
                or declared_base = (select declared_base from model_versions where id = %(base_of)s))
            order by searched.id desc limit %(latest)s) as latest
        """,
        {"registry": registry, "base_of": base_of, "latest": _LATEST},
    ).fetchone()
    return (float(row[0]), int(row[1])) if row and row[1] else None


def _row(*values: Any) -> TaughtRow:
    row = TaughtRow(*values)
    result = None if row.result is None else from_json(Taught, row.result)
    return replace(row, result=result)
