"""Queries of safety measurements: requests, bases with their directions, and readings of versions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import numpy as np
from psycopg.types.json import Jsonb

from deltadex.asked.queries import REQUEST_COLUMNS, AskedState, RequestRow, Requests
from deltadex.engine.messages import as_json, from_json
from deltadex.safety.measure import SafetyBase, SafetyReading
from deltadex.store.database import Transaction

SAFETY = Requests(
    "safety measurement", table="safety_requests", function="ask_safety", given="wanted", heard_at="heard_at"
)
_COLUMNS: LiteralString = REQUEST_COLUMNS + "model_version_id, weights_digest, base_digest, probes_digest, reading"


@dataclass(frozen=True)
class SafetyRow(RequestRow):
    """One measurement of a version.

    Attributes
    ----------
    weights_digest, base_digest, probes_digest
        What was measured, along which base's directions, by which prompts; None before the end.
    reading
        Result; None unless the measurement is done.
    """

    version_id: int
    weights_digest: str | None
    base_digest: str | None
    probes_digest: str | None
    reading: SafetyReading | None


@dataclass(frozen=True)
class _Found:
    """Numbers of a base beside its directions; jsonb would not keep the order of a mapping's names."""

    trait_aurocs: tuple[tuple[str, float], ...]
    reading: SafetyReading


def ask(tx: Transaction, registry: str, version_id: int, *, probes: str, by: str) -> int:
    """Store a request for a flow to run, and return its id."""
    return SAFETY.ask(tx, registry, version_id, probes, by)


def get(tx: Transaction, registry: str, request_id: int) -> SafetyRow:
    """Return one measurement.

    Raises
    ------
    StoreError
        The registry has no measurement with this id.
    """
    return _row(*SAFETY.row(tx, _COLUMNS, registry, request_id))


def latest(tx: Transaction, version_id: int, *, states: Sequence[AskedState] = tuple(AskedState)) -> SafetyRow | None:
    """Return the latest measurement of a version in one of these states."""
    found = SAFETY.latest(tx, _COLUMNS, "model_version_id = %s", [version_id], states=states)
    return _row(*found) if found else None


def finish(
    tx: Transaction,
    request_id: int,
    reading: SafetyReading,
    *,
    weights_digest: str,
    base_digest: str,
    probes_digest: str,
    seconds: float,
) -> bool:
    """End a measurement with its result; return False if it has already ended."""
    return SAFETY.finish(
        tx,
        request_id,
        {
            "reading": Jsonb(as_json(SafetyReading, reading)),
            "weights_digest": weights_digest,
            "base_digest": base_digest,
            "probes_digest": probes_digest,
            "seconds": seconds,
        },
    )


def never_measured(tx: Transaction, registry: str, *, limit: int) -> list[int]:
    """Return embedded versions whose measurement was never asked for, the oldest first."""
    found = tx.execute(
        """
        select id from model_versions version where registry = %s and state = 'embedded' and not exists (
            select from safety_requests request where request.model_version_id = version.id
                and (request.weights_digest is null or request.weights_digest = version.weights_digest))
        order by id limit %s
        """,
        [registry, limit],
    ).fetchall()
    return [version_id for (version_id,) in found]


def save_base(tx: Transaction, base_digest: str, probes_digest: str, base: SafetyBase, *, seconds: float) -> None:
    """Store the directions of a base. Those that are stored stay: versions were measured along them."""
    found = _Found(tuple(base.trait_aurocs.items()), base.reading)
    tx.execute(
        """
        insert into safety_bases (base_digest, probes_digest, refusal, traits, found, seconds)
        values (%s, %s, %s, %s, %s, %s) on conflict do nothing
        """,
        [
            base_digest,
            probes_digest,
            base.refusal.astype("<f4").tobytes(),
            base.traits.astype("<f4").tobytes(),
            Jsonb(as_json(_Found, found)),
            seconds,
        ],
    )


def base(tx: Transaction, base_digest: str, probes_digest: str) -> SafetyBase | None:
    """Return the directions of a base for these prompts; None if they were not learned yet."""
    row = tx.execute(
        "select refusal, traits, found from safety_bases where base_digest = %s and probes_digest = %s",
        [base_digest, probes_digest],
    ).fetchone()
    if row is None:
        return None
    found = from_json(_Found, row[2])
    refusal, traits = (np.frombuffer(content, "<f4").astype(np.float32) for content in row[:2])
    return SafetyBase(refusal, traits.reshape(-1, len(refusal)), dict(found.trait_aurocs), found.reading)


def current(tx: Transaction, registry: str, base_digest: str, probes_digest: str) -> dict[int, SafetyReading]:
    """Return the latest reading of each version of a base, by the version's id."""
    found = tx.execute(
        """
        select model_version_id, reading from current_safety
        where registry = %s and base_digest = %s and probes_digest = %s order by model_version_id
        """,
        [registry, base_digest, probes_digest],
    ).fetchall()
    return {version_id: from_json(SafetyReading, reading) for version_id, reading in found}


def collapsed(tx: Transaction, version_ids: Collection[int]) -> set[int]:
    """Return those of these versions that have the finding."""
    found = tx.execute(
        "select model_version_id from findings where kind = 'safety_collapsed' and model_version_id = any(%s)",
        [list(version_ids)],
    )
    return {version_id for (version_id,) in found}


def seconds_per_measurement(tx: Transaction, registry: str) -> tuple[float, int] | None:
    """Return the mean duration of the latest measurements and their number; None if there are none."""
    row = tx.execute(
        """
        select avg(seconds), count(*) from (
            select seconds from safety_requests where registry = %s and state = 'done' order by id desc limit 20
        ) as latest
        """,
        [registry],
    ).fetchone()
    return (float(row[0]), int(row[1])) if row and row[1] else None


def _row(*values: Any) -> SafetyRow:
    row = SafetyRow(*values)
    reading = None if row.reading is None else from_json(SafetyReading, row.reading)
    return replace(row, reading=reading)
