"""Queries of replays: requests, progress and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from deltadex.asked.queries import REQUEST_COLUMNS, AskedState, RequestRow, Requests
from deltadex.engine.messages import as_json, from_json
from deltadex.replay.agreement import Agreement
from deltadex.replay.prompts import digest
from deltadex.store.database import Transaction

REPLAYS = Requests("replay", table="replays", function="ask_replay", given="prompts", heard_at="heard_at")
_COLUMNS: LiteralString = (
    REQUEST_COLUMNS
    + """
    keeper_id, other_id, prompts_digest, prompts_count, prompts_from, max_new_tokens, keeper_digest, other_digest,
    agreement
"""
)
#: Replays whose time an estimate rests on.
_LATEST = 20


@dataclass(frozen=True)
class ReplayRow(RequestRow):
    """One replay.

    Attributes
    ----------
    prompts_from
        `file`, or the artifact of the keeper's run that held the prompts.
    max_new_tokens
        Tokens after which an answer was cut.
    keeper_digest, other_digest
        Weights digests of the versions that answered; None before the end.
    agreement
        Result; None unless the replay is done.
    """

    keeper_id: int
    other_id: int
    prompts_digest: str
    prompts_count: int
    prompts_from: str
    max_new_tokens: int
    keeper_digest: str | None
    other_digest: str | None
    agreement: Agreement | None


def ask(
    tx: Transaction,
    registry: str,
    keeper_id: int,
    other_id: int,
    prompts: Sequence[str],
    *,
    prompts_from: str,
    max_new_tokens: int,
    by: str,
) -> int:
    """Store a replay for a flow to run, and return its id."""
    given = [Jsonb(list(prompts)), digest(prompts), prompts_from, max_new_tokens]
    return REPLAYS.ask(tx, registry, keeper_id, other_id, *given, by)


def get(tx: Transaction, registry: str, replay_id: int) -> ReplayRow:
    """Return one replay.

    Raises
    ------
    StoreError
        The registry has no replay with this id.
    """
    return _row(*REPLAYS.row(tx, _COLUMNS, registry, replay_id))


def latest_between(
    tx: Transaction, registry: str, one_id: int, other_id: int, *, states: Sequence[AskedState]
) -> ReplayRow | None:
    """Return the latest replay of two versions in one of these states, whichever of them was to be kept."""
    found = REPLAYS.latest(
        tx,
        _COLUMNS,
        """
        least(keeper_id, other_id) = least(%s::bigint, %s::bigint)
            and greatest(keeper_id, other_id) = greatest(%s::bigint, %s::bigint) and registry = %s
        """,
        [one_id, other_id, one_id, other_id, registry],
        states=states,
    )
    return _row(*found) if found else None


def begin(tx: Transaction, replay_id: int, *, flow_run_id: str) -> tuple[str, ...] | None:
    """Begin a replay, or begin it again, and return its prompts; None if it has ended."""
    prompts = REPLAYS.begin(tx, replay_id, flow_run_id=flow_run_id)
    return None if prompts is None else tuple(prompts)


def finish(tx: Transaction, replay_id: int, agreement: Agreement, *, digests: tuple[str, str], seconds: float) -> bool:
    """End a replay with its result; return False if it has already ended.

    Parameters
    ----------
    digests
        Weights digests of the keeper and of the other version.
    """
    keeper_digest, other_digest = digests
    return REPLAYS.finish(
        tx,
        replay_id,
        {
            "agreement": Jsonb(as_json(Agreement, agreement)),
            "keeper_digest": keeper_digest,
            "other_digest": other_digest,
            "seconds": seconds,
        },
    )


def seconds_per_token(tx: Transaction, registry: str, *, base_of: int | None = None) -> tuple[float, int] | None:
    """Return the seconds of the latest replays by prompts × token limit, and their number; None if there were none.

    Parameters
    ----------
    base_of
        Version whose declared base the replayed ones have; None for any base.
    """
    row = tx.execute(
        """
        select sum(seconds) / sum(prompts_count * max_new_tokens), count(*) from (
            select seconds, prompts_count, max_new_tokens from replays
            join model_versions as keeper on keeper.id = keeper_id
            where replays.registry = %(registry)s and replays.state = 'done' and (%(base_of)s::bigint is null
                or declared_base = (select declared_base from model_versions where id = %(base_of)s))
            order by replays.id desc limit %(latest)s) as latest
        """,
        {"registry": registry, "base_of": base_of, "latest": _LATEST},
    ).fetchone()
    return (float(row[0]), int(row[1])) if row and row[1] else None


def seconds_per_embedding(tx: Transaction, registry: str) -> float | None:
    """Return the mean duration of the step that embeds a version; None if none was embedded."""
    row = tx.execute(
        "select sum(seconds) / sum(count) from work_done where registry = %s and kind = 'step' and name = 'embed'",
        [registry],
    ).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def _row(*values: Any) -> ReplayRow:
    row = ReplayRow(*values)
    agreement = None if row.agreement is None else from_json(Agreement, row.agreement)
    return replace(row, agreement=agreement)
