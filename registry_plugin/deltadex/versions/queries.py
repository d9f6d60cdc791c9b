"""Reads of model versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row
from psycopg.sql import SQL, Literal
from psycopg.types.json import Jsonb

from deltadex.errors import Resource, StoreError
from deltadex.store.database import Transaction
from deltadex.types import (
    DEMO_REGISTERED_TAG,
    DEMO_TIME,
    DOMAIN_TAG,
    ModelVersionRef,
    Provenance,
    Queue,
    RegisteredVersion,
    RiskTier,
    State,
    VersionRow,
)  # fmt: skip

#: When a version was registered, in milliseconds: `RegisteredVersion.registered_at` of a row of `model_versions`.
REGISTERED_MS = SQL(
    """
    coalesce(
        case when tags ->> {tag} ~ {form} and pg_input_is_valid(tags ->> {tag}, 'timestamptz') then (
            select stated from (select (extract(epoch from (tags ->> {tag})::timestamptz) * 1000)::bigint as stated) _
            where stated between 0 and created_ms)
        end, created_ms)
    """
).format(tag=Literal(DEMO_REGISTERED_TAG), form=Literal(DEMO_TIME))
#: Rows with owner and tier of their registered model; a condition follows.
_ROWS: LiteralString = """
    select model_versions.*, (
        select array[known.owner, known.tier] from registered_models known
        where (known.registry, known.name) = (model_versions.registry, model_versions.name) and not is_gone
    ) as about_model
    from model_versions where
"""


@dataclass(frozen=True)
class StateChange:
    """One entry of a version's state history."""

    state: State
    attempt: int
    reason: str
    at: datetime


def unknown(tx: Transaction, versions: Collection[RegisteredVersion]) -> list[RegisteredVersion]:
    """Return the versions that have no row, in the given order."""
    keys = [[v.ref.registry, v.ref.name, v.ref.version, v.ref.created_ms] for v in versions]
    rows = tx.execute(
        """
        select known.registry, known.name, known.version, known.created_ms
        from jsonb_array_elements(%s) as key
        join model_versions known on
            known.registry = key ->> 0 and known.name = key ->> 1
            and known.version = (key ->> 2)::integer and known.created_ms = (key ->> 3)::bigint
        """,
        [Jsonb(keys)],
    )
    known = {ModelVersionRef(*row) for row in rows}
    return [version for version in versions if version.ref not in known]


def renamed(tx: Transaction, version: RegisteredVersion) -> list[VersionRow]:
    """Return the rows that may be this version under an earlier name; the caller checks that name in the registry."""
    ref = version.ref
    return _select(
        tx,
        "registry = %s and version = %s and created_ms = %s and source = %s and name <> %s order by id",
        [ref.registry, ref.version, ref.created_ms, version.source, ref.name],
    )


def get(tx: Transaction, version_id: int) -> VersionRow:
    """Return one row.

    Raises
    ------
    StoreError
        No row has this id.
    """
    rows = by_ids(tx, [version_id])
    if not rows:
        raise StoreError(f"There is no model version with id {version_id}", hint="`deltadex status` lists them.")
    return rows[version_id]


def locked(tx: Transaction, version_id: int) -> VersionRow:
    """Return one row, which no other transaction changes until this one ends."""
    [row] = _select(tx, "id = %s for update", [version_id])
    return row


def by_ids(tx: Transaction, ids: Sequence[int]) -> dict[int, VersionRow]:
    """Return rows by their id; unknown ids are left out."""
    return {row.id: row for row in _select(tx, "id = any(%s)", [list(ids)])}


def find(tx: Transaction, registry: str, name: str, version: int | None = None) -> list[VersionRow]:
    """Return the versions of one registered model, newest first and deleted ones last."""
    return _select(
        tx,
        """
        registry = %s and name = %s and (%s::integer is null or version = %s)
        order by state = 'deleted', created_ms desc, version desc
        """,
        [registry, name, version, version],
    )


def listing(tx: Transaction, registry: str, *, states: Collection[State] | None = None) -> list[VersionRow]:
    """Return all versions of a registry, or those in the given states, by name and then newest first."""
    return _select(
        tx,
        "registry = %s and state = any(%s) order by name, created_ms desc, version desc",
        [registry, list(State if states is None else states)],
    )


def names(tx: Transaction, registry: str) -> list[str]:
    """Return the registered models that have a version in the registry, by name."""
    found = tx.execute(
        "select distinct name from model_versions where registry = %s and state <> 'deleted' order by name", [registry]
    )
    return [name for (name,) in found]


def models_of_domains(tx: Transaction, registry: str, values: Collection[str]) -> list[tuple[str, str]]:
    """Return the registered models that have a version of one of these domains, each with the domain."""
    return tx.execute(
        "select distinct name, tags ->> %(tag)s from model_versions "
        "where registry = %(registry)s and tags ->> %(tag)s = any(%(values)s)",
        {"tag": DOMAIN_TAG, "registry": registry, "values": list(values)},
    ).fetchall()


def waiting_alone(tx: Transaction, registry: str, *, with_fresh: bool, limit: int) -> list[VersionRow]:
    """Return discovered versions for runs of their own, oldest first: those that died before, and fresh ones if asked.

    Whatever killed an earlier run may kill the next one, and with it a whole shard.
    """
    return _select(
        tx,
        """
        registry = %s and state = 'discovered' and (goes_alone or (%s and queue = 'fresh'))
            and (queue = 'fresh' or not exists (select from watchers where watchers.registry = %s and is_paused))
        order by queue = 'backfill', created_ms, id limit %s
        """,
        [registry, with_fresh, registry, limit],
    )


def fresh_under_way(tx: Transaction, registry: str) -> int:
    """Return how many fresh versions wait, or have a run of their own that has not ended."""
    row = tx.execute(
        """
        select count(*) from model_versions
        where registry = %s and queue = 'fresh' and state in ('discovered', 'queued', 'running') and shard_id is null
        """,
        [registry],
    ).fetchone()
    return int(row[0]) if row else 0


def counts(tx: Transaction, registry: str) -> dict[State, int]:
    """Return how many versions are in each state, all states included."""
    rows = tx.execute("select state, count(*) from model_versions where registry = %s group by state", [registry])
    found = {State(state): int(count) for state, count in rows}
    return {state: found.get(state, 0) for state in State}


def embedded_per_minute(tx: Transaction, registry: str) -> float:
    """Return how many versions were embedded per minute, from the first of the last ten minutes on; 0 if none was."""
    row = tx.execute(
        """
        select count(*), extract(epoch from now() - min(at))::float8 / 60
        from state_changes join model_versions on model_versions.id = model_version_id
        where registry = %s and state_changes.state = 'embedded' and at > now() - interval '10 minutes'
        """,
        [registry],
    ).fetchone()
    count, minutes = row or (0, None)
    return float(count / max(minutes, 1 / 60)) if count else 0.0


def history(tx: Transaction, version_id: int) -> list[StateChange]:
    """Return every state a version was in, oldest first."""
    rows = tx.execute(
        "select state, attempt, reason, at from state_changes where model_version_id = %s order by id", [version_id]
    )
    return [StateChange(State(state), attempt, reason, at) for state, attempt, reason, at in rows]


def _select(tx: Transaction, condition: LiteralString, parameters: Sequence[object]) -> list[VersionRow]:
    query = SQL(_ROWS) + SQL(condition)
    with tx.cursor(row_factory=dict_row) as cursor:
        return [_row(values) for values in cursor.execute(query, parameters)]


def _row(values: Mapping[str, Any]) -> VersionRow:
    owner, tier = values["about_model"] or (None, None)
    return VersionRow(
        id=values["id"],
        registered=RegisteredVersion(
            ref=ModelVersionRef(values["registry"], values["name"], values["version"], values["created_ms"]),
            source=values["source"],
            run_id=values["run_id"],
            description=values["description"],
            tags=values["tags"],
            aliases=tuple(values["aliases"]),
            model_owner=owner,
            tier=tier and RiskTier(tier),
        ),
        state=State(values["state"]),
        state_since=values["state_since"],
        discovered_at=values["discovered_at"],
        attempt=values["attempt"],
        queue=Queue(values["queue"]),
        reason=values["reason"],
        hint=values["hint"],
        flow_run_id=values["flow_run_id"],
        weights_digest=values["weights_digest"],
        artifact_uri=values["artifact_uri"],
        heartbeat_at=values["heartbeat_at"],
        deaths=values["deaths"],
        shard_id=values["shard_id"],
        lacking=values["lacking"] and Resource(values["lacking"]),
        more_than=values["more_than"],
        provenance=Provenance(
            values["weights_bytes"], values["training_digest"], values["metrics"], values["training_settings"]
        ),
    )
