"""Writes of model versions: registry data and state transitions.

Every transition is guarded in SQL: a late, repeated or concurrent call changes nothing and returns False.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import LiteralString

from psycopg.types.json import Jsonb

from deltadex.errors import DeltadexError, Resource, Shortage, StoreError
from deltadex.escaping import storable
from deltadex.store.database import Transaction
from deltadex.types import BASE_TAG, DOMAIN_TAG, STAGE_TAG, UNDER_WAY, Queue, RegisteredVersion, State, VersionRow


def discover(tx: Transaction, versions: Collection[RegisteredVersion], *, fresh_since_ms: int) -> list[int]:
    """Insert or update versions from the registry, and return the ids of rows that are newly discovered.

    Known versions get the registry's source, run, description, tags and aliases. A version that was marked deleted and
    is back in the registry starts over with a higher attempt, and so does one that was read when its tag named another
    base.

    Parameters
    ----------
    fresh_since_ms
        Versions created before this time, in milliseconds since the epoch, go to the queue `backfill`.
    """
    seen = {version.ref: version for version in versions}
    # Sorted, so that two concurrent calls lock rows in the same order and never deadlock.
    listed = [_as_json(seen[ref], fresh_since_ms) for ref in sorted(seen)]
    tx.execute(
        """
        select start_over(known.id, %s, false)
        from jsonb_to_recordset(%s) as listed (registry text, name text, version integer, created_ms bigint, tags jsonb)
        join model_versions known using (registry, name, version, created_ms)
        where known.state not in ('discovered', 'queued', 'deleted')
            and known.tags ->> %s is distinct from listed.tags ->> %s
        """,
        [f"its tag {BASE_TAG} is another one now", Jsonb(listed), BASE_TAG, BASE_TAG],
    )
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
            relabelled_at = case
                when (known.tags ->> %s, known.tags ->> %s, known.aliases)
                    is distinct from (excluded.tags ->> %s, excluded.tags ->> %s, excluded.aliases)
                then now() else known.relabelled_at end,
            attempt = known.attempt + (known.state = 'deleted')::integer,
            shard_id = case known.state when 'deleted' then null else known.shard_id end,
            reason = case known.state when 'deleted' then 'in the registry again' else known.reason end,
            state = case known.state when 'deleted' then 'discovered' else known.state end
        where known.state = 'deleted'
            or (known.source, known.run_id, known.description, known.tags, known.aliases)
            is distinct from
            (excluded.source, excluded.run_id, excluded.description, excluded.tags, excluded.aliases)
        returning id, state_since = now() and state = 'discovered'
        """,
        [Jsonb(listed), DOMAIN_TAG, STAGE_TAG, DOMAIN_TAG, STAGE_TAG],
    )
    return sorted(version_id for version_id, is_new in changed if is_new)


def relabelled(tx: Transaction, registry: str) -> list[tuple[int, datetime]]:
    """Return the embedded versions whose domain tag, stage or aliases have changed since they were judged, and when."""
    found = tx.execute(
        """
        select id, relabelled_at from model_versions
        where registry = %s and state = 'embedded' and relabelled_at is not null order by id
        """,
        [registry],
    )
    return found.fetchall()


def mark_judged(tx: Transaction, judged: Collection[tuple[int, datetime]]) -> None:
    """Record that versions were judged by the labels that they had at these times."""
    ids, times = ([each[place] for each in judged] for place in (0, 1))
    tx.execute(
        """
        update model_versions set relabelled_at = null
        from unnest(%s::bigint[], %s::timestamptz[]) as judged (id, changed_at)
        where model_versions.id = judged.id and relabelled_at = changed_at
        """,
        [ids, times],
    )


def rename(tx: Transaction, version_id: int, name: str) -> bool:
    """Rename a row's registered model; return False if the version already has a row under the new name."""
    return _update(
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
    """Store the flow run of this attempt; return False if the attempt is already running, ended or superseded."""
    return _update(
        tx,
        """
        update model_versions set state = 'queued', flow_run_id = %(flow_run_id)s
        where id = %(id)s and attempt = %(attempt)s and state in ('discovered', 'queued') and shard_id is null
        """,
        {"id": version_id, "attempt": attempt, "flow_run_id": flow_run_id},
    )


def mark_running(tx: Transaction, version_id: int, *, attempt: int, flow_run_id: str) -> bool:
    """Mark a version as running in a run of its own.

    Returns False if it was deleted, has ended, is in a shard, or a later attempt exists.
    """
    return _update(
        tx,
        """
        update model_versions
        set state = 'running', flow_run_id = %(flow_run_id)s, heartbeat_at = now()
        where id = %(id)s and attempt = %(attempt)s and state = any(%(before)s) and shard_id is null
        """,
        {"id": version_id, "attempt": attempt, "flow_run_id": flow_run_id, "before": list(UNDER_WAY)},
    )


def mark_ended(
    tx: Transaction, version_id: int, *, state: State, reason: str, hint: str = "", attempt: int | None = None
) -> bool:
    """Mark a version as `unsupported`, `skipped`, `failed` or `deleted`.

    Returns False if nothing changed: the version was already deleted, is not under way (only `deleted` may follow
    then), or the given attempt was superseded.
    """
    before = set(State) - {State.DELETED} if state is State.DELETED else set(UNDER_WAY)
    return _update(
        tx,
        """
        update model_versions set state = %(state)s, reason = %(reason)s, hint = %(hint)s
        where id = %(id)s and state = any(%(before)s) and attempt = coalesce(%(attempt)s, attempt)
        """,
        {
            "id": version_id,
            "state": state,
            "reason": storable(reason),
            "hint": storable(hint),
            "attempt": attempt,
            "before": list(before),
        },
    )


def note_error(tx: Transaction, version_id: int, error: DeltadexError, *, attempt: int) -> bool:
    """Store the reason of an attempt that is tried again; return False if the attempt was superseded."""
    return _update(
        tx,
        """
        update model_versions set reason = %(reason)s, hint = %(hint)s
        where id = %(id)s and state = any(%(before)s) and attempt = %(attempt)s
        """,
        {
            "id": version_id,
            "reason": storable(error.message),
            "hint": storable(error.hint),
            "attempt": attempt,
            "before": list(UNDER_WAY),
        },
    )


def mark_waiting(tx: Transaction, version_id: int, shortage: Shortage, *, attempt: int) -> bool:
    """Mark a version as waiting for another machine; return False if not under way or the attempt was superseded."""
    return _update(
        tx,
        """
        update model_versions
        set state = 'waiting', reason = %(reason)s, hint = %(hint)s, lacking = %(lacking)s, more_than = %(more_than)s
        where id = %(id)s and state = any(%(before)s) and attempt = %(attempt)s
        """,
        {
            "id": version_id,
            "reason": storable(shortage.message),
            "hint": storable(shortage.hint),
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
        Increment the count of deaths; False resets it to zero.

    Raises
    ------
    StoreError
        There is no such version.
    """
    row = tx.execute("select start_over(%s, %s, %s)", [version_id, storable(reason), died]).fetchone()
    if row is None or row[0] is None:
        raise StoreError(f"There is no model version with id {version_id}", hint="`deltadex status` lists them.")
    return int(row[0])


def resume(tx: Transaction, row: VersionRow) -> None:
    """Start a waiting version over, in a run of its own on a machine that has more of what it lacked.

    One that an artifact store refused needs no larger machine, and goes into a shard with all the others of that store.
    """
    if row.lacking is Resource.STORE:
        requeue(tx, row.id, reason="the artifact store is tried again")
        return
    requeue(tx, row.id, reason=f"a machine with more {row.lacking} is there")
    tx.execute(
        "update model_versions set lacking = %s, more_than = %s, goes_alone = true where id = %s",
        [row.lacking, row.more_than, row.id],
    )


def rejoin(tx: Transaction, version_id: int) -> None:
    """Let a version that was requeued after a death go into a shard again: it was not to blame."""
    tx.execute("update model_versions set goes_alone = false where id = %s", [version_id])


def forgive(tx: Transaction, version_id: int) -> None:
    """Take back the death that the last `requeue` counted."""
    tx.execute("update model_versions set deaths = deaths - 1, goes_alone = deaths > 1 where id = %s", [version_id])


def set_priority(tx: Transaction, version_ids: Collection[int], priority: int) -> None:
    """Set the priority of versions among those that wait."""
    tx.execute("update model_versions set priority = %s where id = any(%s)", [priority, list(version_ids)])


def heartbeat(tx: Transaction, version_id: int, *, attempt: int) -> bool:
    """Record a heartbeat of a running version; return False if it was deleted or the attempt was superseded."""
    return _update(
        tx,
        """
        update model_versions set heartbeat_at = case state when 'running' then now() else heartbeat_at end
        where id = %(id)s and attempt = %(attempt)s and state <> 'deleted'
        """,
        {"id": version_id, "attempt": attempt},
    )


def _update(tx: Transaction, update: LiteralString, parameters: Mapping[str, object]) -> bool:
    return tx.execute(update, parameters).rowcount == 1


def _as_json(version: RegisteredVersion, fresh_since_ms: int) -> dict[str, object]:
    ref = version.ref
    return {
        "registry": ref.registry,
        "name": ref.name,
        "version": ref.version,
        "created_ms": ref.created_ms,
        "source": storable(version.source),
        "run_id": version.run_id,
        "description": storable(version.description),
        "tags": {storable(key): storable(value) for key, value in version.tags.items()},
        "aliases": sorted(version.aliases),
        "queue": Queue.FRESH if ref.created_ms >= fresh_since_ms else Queue.BACKFILL,
    }
