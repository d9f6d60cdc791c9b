"""Model versions and the states they pass through.

Every transition is guarded in SQL: a late, repeated or concurrent call changes nothing and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.domain import UNDER_WAY, ModelVersionRef, Provenance, Queue, RegisteredVersion, State, VersionRow
from deltadex.errors import Resource, Shortage, StoreError
from deltadex.store.database import Transaction


@dataclass(frozen=True)
class StateChange:
    """One step of a version's history."""

    state: State
    attempt: int
    reason: str
    at: datetime


def discover(tx: Transaction, versions: Collection[RegisteredVersion], *, fresh_since_ms: int) -> list[int]:
    """Write what the registry says, and return the rows that now wait for an embedding because of it.

    Unknown versions are inserted. Of known ones source, run, description, tags and aliases follow the registry; one
    that had been taken for deleted and is there again starts over with a higher attempt.

    Parameters
    ----------
    fresh_since_ms
        Versions created before this many milliseconds since the epoch go to the queue `backfill`.
    """
    seen = {version.ref: version for version in versions}
    # In one order for everybody, so that two watchers never wait for each other's rows.
    listed = [_as_json(seen[ref], fresh_since_ms) for ref in sorted(seen)]
    changed = tx.execute(
        """
        with listed as materialized (
            select * from jsonb_to_recordset(%s) as listed (
                registry text, name text, version integer, created_ms bigint, source text, run_id text,
                description text, tags jsonb, aliases text[], queue text)
        )
        insert into model_versions as known (
            registry, name, version, created_ms, source, run_id, description, tags, aliases, queue)
        select * from listed
        on conflict (registry, name, version, created_ms) do update set
            source = excluded.source,
            run_id = excluded.run_id,
            description = excluded.description,
            tags = excluded.tags,
            aliases = excluded.aliases,
            attempt = known.attempt + (known.state = 'deleted')::integer,
            reason = case known.state when 'deleted' then 'in the registry again' else known.reason end,
            state = case known.state when 'deleted' then 'discovered' else known.state end
        where known.state = 'deleted'
            or (known.source, known.run_id, known.description, known.tags, known.aliases)
            is distinct from
            (excluded.source, excluded.run_id, excluded.description, excluded.tags, excluded.aliases)
        returning id, state_since = now() and state = 'discovered'
        """,
        [Jsonb(listed)],
    )
    return sorted(version_id for version_id, is_new in changed if is_new)


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


def rename(tx: Transaction, version_id: int, name: str) -> bool:
    """Give a row the registered model's new name; False where that version has a row under the new name already."""
    return _changes(
        tx,
        """
        update model_versions renamed set name = %(name)s where id = %(id)s and not exists (
            select from model_versions other where other.name = %(name)s
            and (other.registry, other.version, other.created_ms)
            = (renamed.registry, renamed.version, renamed.created_ms))
        """,
        {"id": version_id, "name": name},
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


def mark_queued(tx: Transaction, version_id: int, *, attempt: int, flow_run_id: str) -> bool:
    """Note the flow run of this attempt; False where it is running already, ended, or superseded."""
    return _changes(
        tx,
        """
        update model_versions set state = 'queued', flow_run_id = %(flow_run_id)s
        where id = %(id)s and attempt = %(attempt)s and state in ('discovered', 'queued')
        """,
        {"id": version_id, "attempt": attempt, "flow_run_id": flow_run_id},
    )


def mark_running(tx: Transaction, version_id: int, *, attempt: int, flow_run_id: str) -> bool:
    """Take a version on; False where it was deleted, has ended, or a later attempt exists."""
    return _changes(
        tx,
        """
        update model_versions
        set state = 'running', flow_run_id = %(flow_run_id)s, heartbeat_at = now(), reason = '', hint = ''
        where id = %(id)s and attempt = %(attempt)s and state = any(%(before)s)
        """,
        {"id": version_id, "attempt": attempt, "flow_run_id": flow_run_id, "before": list(UNDER_WAY)},
    )


def mark_ended(
    tx: Transaction, version_id: int, *, state: State, reason: str, hint: str = "", attempt: int | None = None
) -> bool:
    """Bring a version into one of the states `unsupported`, `failed` and `deleted`.

    Returns False where nothing changed: it was deleted before, is embedded (that only `deleted` may end), or the
    given attempt was superseded.
    """
    before = set(State) - {State.DELETED} if state is State.DELETED else set(UNDER_WAY)
    return _changes(
        tx,
        """
        update model_versions set state = %(state)s, reason = %(reason)s, hint = %(hint)s
        where id = %(id)s and state = any(%(before)s) and attempt = coalesce(%(attempt)s, attempt)
        """,
        {
            "id": version_id,
            "state": state,
            "reason": _storable(reason),
            "hint": _storable(hint),
            "attempt": attempt,
            "before": list(before),
        },
    )


def mark_waiting(tx: Transaction, version_id: int, shortage: Shortage, *, attempt: int) -> bool:
    """Let a version wait for a machine with more; False where it is not under way or the attempt was superseded."""
    return _changes(
        tx,
        """
        update model_versions
        set state = 'waiting', reason = %(reason)s, hint = %(hint)s, lacking = %(lacking)s, more_than = %(more_than)s
        where id = %(id)s and state = any(%(before)s) and attempt = %(attempt)s
        """,
        {
            "id": version_id,
            "reason": _storable(shortage.message),
            "hint": _storable(shortage.hint),
            "lacking": shortage.resource,
            "more_than": shortage.more_than,
            "attempt": attempt,
            "before": list(UNDER_WAY),
        },
    )


def requeue(tx: Transaction, version_id: int, *, reason: str, died: bool = False) -> int:
    """Start a version over with a higher attempt, whatever its state, and return that attempt.

    Parameters
    ----------
    died
        Count another death; any other reason forgets those that were.

    Raises
    ------
    StoreError
        There is no such version.
    """
    row = tx.execute("select start_over(%s, %s, %s)", [version_id, _storable(reason), died]).fetchone()
    if row is None or row[0] is None:
        raise StoreError(f"There is no model version with id {version_id}", hint="`deltadex status` lists them.")
    return int(row[0])


def heartbeat(tx: Transaction, version_id: int) -> bool:
    """Say that a running version is being worked on; False where it is not running."""
    return _changes(
        tx,
        "update model_versions set heartbeat_at = now() where id = %(id)s and state = 'running'",
        {"id": version_id},
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


def _changes(tx: Transaction, update: LiteralString, parameters: Mapping[str, object]) -> bool:
    return tx.execute(update, parameters).rowcount == 1


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


def _as_json(version: RegisteredVersion, fresh_since_ms: int) -> dict[str, object]:
    ref = version.ref
    return {
        "registry": ref.registry,
        "name": ref.name,
        "version": ref.version,
        "created_ms": ref.created_ms,
        "source": _storable(version.source),
        "run_id": version.run_id,
        "description": _storable(version.description),
        "tags": {_storable(key): _storable(value) for key, value in version.tags.items()},
        "aliases": sorted(version.aliases),
        "queue": Queue.FRESH if ref.created_ms >= fresh_since_ms else Queue.BACKFILL,
    }


def _storable(text: str) -> str:
    """Replace what Postgres can't hold: one odd description must never stop a batch."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
