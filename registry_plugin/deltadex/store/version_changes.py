"""Changes of model versions: what the registry says of them, and the states they pass through.

Every transition is guarded in SQL: a late, repeated or concurrent call changes nothing and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import LiteralString

from psycopg.types.json import Jsonb

from deltadex.domain import UNDER_WAY, Queue, RegisteredVersion, State
from deltadex.errors import Shortage, StoreError
from deltadex.store.database import Transaction


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


def _changes(tx: Transaction, update: LiteralString, parameters: Mapping[str, object]) -> bool:
    return tx.execute(update, parameters).rowcount == 1


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
