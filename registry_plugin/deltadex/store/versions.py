"""Model versions, read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.domain import ModelVersionRef, Provenance, Queue, RegisteredVersion, State, VersionRow
from deltadex.errors import Resource, StoreError
from deltadex.store.database import Transaction


@dataclass(frozen=True)
class StateChange:
    """One step of a version's history."""

    state: State
    attempt: int
    reason: str
    at: datetime


def unknown(tx: Transaction, versions: Collection[RegisteredVersion]) -> list[RegisteredVersion]:
    """Return those that have no row, in the given order."""
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
    """Return the rows that may be this version under an earlier name; the registry must say whether that is gone."""
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
        There is none.
    """
    rows = by_ids(tx, [version_id])
    if not rows:
        raise StoreError(f"There is no model version with id {version_id}", hint="`deltadex status` lists them.")
    return rows[version_id]


def by_ids(tx: Transaction, ids: Sequence[int]) -> dict[int, VersionRow]:
    """Return rows by their id; unknown ids are left out."""
    return {row.id: row for row in _select(tx, "id = any(%s)", [list(ids)])}


def is_followed(tx: Transaction, ref: ModelVersionRef) -> bool:
    """Tell whether any other version was registered at the same millisecond or later."""
    # In the order of the index: told only that some may be later, Postgres looks for them among all.
    row = tx.execute(
        """
        select created_ms >= %s from model_versions where registry = %s and (name, version) <> (%s, %s)
        order by created_ms desc limit 1
        """,
        [ref.created_ms, ref.registry, ref.name, ref.version],
    ).fetchone()
    return bool(row and row[0])


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


def waiting(tx: Transaction, registry: str, *, limit: int) -> list[VersionRow]:
    """Return versions without a flow run, fresh ones before the backfill, oldest first."""
    return _select(
        tx,
        "registry = %s and state = 'discovered' order by queue = 'backfill', created_ms, id limit %s",
        [registry, limit],
    )


def counts(tx: Transaction, registry: str) -> dict[State, int]:
    """Return how many versions are in each state, all states included."""
    rows = tx.execute("select state, count(*) from model_versions where registry = %s group by state", [registry])
    found = {State(state): int(count) for state, count in rows}
    return {state: found.get(state, 0) for state in State}


def history(tx: Transaction, version_id: int) -> list[StateChange]:
    """Return every state a version was in, oldest first."""
    rows = tx.execute(
        "select state, attempt, reason, at from state_changes where model_version_id = %s order by id", [version_id]
    )
    return [StateChange(State(state), attempt, reason, at) for state, attempt, reason, at in rows]


def _select(tx: Transaction, condition: LiteralString, parameters: Sequence[object]) -> list[VersionRow]:
    query = SQL("select * from model_versions where ") + SQL(condition)
    with tx.cursor(row_factory=dict_row) as cursor:
        return [_row(values) for values in cursor.execute(query, parameters)]


def _row(values: Mapping[str, Any]) -> VersionRow:
    return VersionRow(
        id=values["id"],
        registered=RegisteredVersion(
            ref=ModelVersionRef(values["registry"], values["name"], values["version"], values["created_ms"]),
            source=values["source"],
            run_id=values["run_id"],
            description=values["description"],
            tags=values["tags"],
            aliases=tuple(values["aliases"]),
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
        lacking=values["lacking"] and Resource(values["lacking"]),
        more_than=values["more_than"],
        provenance=Provenance(
            values["weights_bytes"], values["training_digest"], values["metrics"], values["training_settings"]
        ),
    )
