"""Shards: rows of flow runs that embed many versions of one base, and the transitions of their versions.

A version of a shard is `queued` until it enters the engine, and `running` from then on: if the run dies, it counts
against the running ones only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from deltadex.store.database import Transaction
from deltadex.types import Queue, VersionRow
from deltadex.versions import queries as versions


@dataclass(frozen=True)
class Shard:
    """Waiting versions that one flow run embeds together.

    Attributes
    ----------
    base
        Declared base of its versions; None if some were not read yet.
    heartbeat_at
        None until its run has begun.
    size
        Number of its versions that have not ended.
    key
        Differs from those of all other shards, of other databases too.
    """

    id: int
    base: str | None
    queue: Queue
    flow_run_id: str | None
    heartbeat_at: datetime | None
    size: int
    key: str

    @property
    def label(self) -> str:
        """Number and size, for display."""
        return f"shard {self.id}, {self.size} versions"


def open_shards(tx: Transaction, registry: str) -> list[Shard]:
    """Return the shards that have not ended, oldest first."""
    found = tx.execute(
        """
        select id, base, queue, flow_run_id, heartbeat_at,
            (select count(*) from model_versions where shard_id = shards.id and state in ('queued', 'running')),
            concat_ws(':', registry, id, extract(epoch from created_at))
        from shards where registry = %s and ended_at is null order by id
        """,
        [registry],
    )
    return [Shard(number, base, Queue(queue), *rest) for number, base, queue, *rest in found]


def waiting_by_base(
    tx: Transaction, registry: str, *, with_fresh: bool, limit: int
) -> dict[tuple[Queue, str | None], list[int]]:
    """Return the ids of versions to cut into shards by queue and base: fresh ones, then by priority, then the oldest.

    None of a paused backfill. Versions with which an earlier run died are left out: they get runs of their own. One
    that was not read yet is taken to have the base of another version of its registered model.
    """
    found = tx.execute(
        """
        with waiting as (
            select id, name, queue, created_ms, priority,
                coalesce(nullif(tags ->> 'deltadex.base', ''), declared_base) as base
            from model_versions
            where registry = %(registry)s and state = 'discovered' and not goes_alone and (
                queue = 'fresh' and %(with_fresh)s
                or queue = 'backfill' and not exists (
                    select from watchers where watchers.registry = %(registry)s and is_paused))
            order by queue = 'backfill', priority desc, created_ms, id limit %(limit)s
        )
        select id, queue, coalesce(base, (
            select declared_base from model_versions sibling
            where sibling.registry = %(registry)s and sibling.name = waiting.name and declared_base is not null
            order by sibling.id desc limit 1))
        from waiting order by queue = 'backfill', priority desc, created_ms, id
        """,
        {"registry": registry, "with_fresh": with_fresh, "limit": limit},
    )
    groups: dict[tuple[Queue, str | None], list[int]] = {}
    for version_id, queue, base in found:
        groups.setdefault((Queue(queue), base), []).append(version_id)
    return groups


def create(tx: Transaction, registry: str, *, base: str | None, queue: Queue) -> int:
    """Add a shard without versions, and return its id."""
    row = tx.execute(
        "insert into shards (registry, base, queue) values (%s, %s, %s) returning id", [registry, base, queue]
    ).fetchone()
    assert row is not None  # noqa: S101 - just inserted
    return int(row[0])


def add(tx: Transaction, shard_id: int, version_ids: Collection[int]) -> int:
    """Queue discovered versions in a shard whose run has not begun; return how many were added."""
    return tx.execute(
        """
        update model_versions set state = 'queued', shard_id = shards.id, flow_run_id = shards.flow_run_id
        from (select id, flow_run_id from shards
              where id = %s and heartbeat_at is null and ended_at is null for update) shards
        where model_versions.id = any(%s) and state = 'discovered'
        """,
        [shard_id, list(version_ids)],
    ).rowcount


def set_run(tx: Transaction, shard_id: int, flow_run_id: str) -> None:
    """Store the flow run of a shard, and of its versions."""
    tx.execute("update shards set flow_run_id = %s where id = %s", [flow_run_id, shard_id])
    tx.execute(
        "update model_versions set flow_run_id = %s where shard_id = %s and state in ('queued', 'running')",
        [flow_run_id, shard_id],
    )


def begin(tx: Transaction, shard_id: int, *, flow_run_id: str) -> list[VersionRow] | None:
    """Mark a shard as begun and return its versions that have not ended; None if the shard has."""
    begun = tx.execute(
        """
        update shards set heartbeat_at = now(), flow_run_id = %(run)s
        where id = %(id)s and ended_at is null and coalesce(flow_run_id, %(run)s) = %(run)s
        """,
        {"id": shard_id, "run": flow_run_id},
    ).rowcount
    return _members(tx, shard_id, states=("queued", "running")) if begun else None


def heartbeat(tx: Transaction, shard_id: int, *, flow_run_id: str) -> bool | None:
    """Record that a shard's run is alive.

    Returns whether it should go on: False if the backfill is paused, None if the shard was ended meanwhile.
    """
    row = tx.execute(
        """
        update shards set heartbeat_at = now()
        where id = %s and flow_run_id = %s and ended_at is null
        returning queue = 'fresh' or not exists (
            select from watchers where watchers.registry = shards.registry and is_paused)
        """,
        [shard_id, flow_run_id],
    ).fetchone()
    return None if row is None else bool(row[0])


def mark_running(tx: Transaction, shard_id: int, attempts: Mapping[int, int]) -> set[int]:
    """Mark versions as running and return those that are still the shard's, at these attempts (by version id)."""
    marked = tx.execute(
        """
        update model_versions set state = 'running', heartbeat_at = now()
        from unnest(%s::bigint[], %s::integer[]) as wanted (id, attempt)
        where model_versions.id = wanted.id and model_versions.attempt = wanted.attempt
            and shard_id = %s and state in ('queued', 'running')
        returning model_versions.id
        """,
        [list(attempts), list(attempts.values()), shard_id],
    )
    return {version_id for (version_id,) in marked}


def set_base(tx: Transaction, version_id: int, base: str) -> None:
    """Store the declared base of a version."""
    tx.execute(
        """
        update model_versions set declared_base = %(base)s
        where id = %(id)s and declared_base is distinct from %(base)s
        """,
        {"id": version_id, "base": base},
    )


def under_way_by_base(tx: Transaction, registry: str) -> list[tuple[str, str, int]]:
    """Return (registered model, declared base, number of versions) of those that wait or are under way.

    The base is empty where it was not read yet.
    """
    return tx.execute(
        """
        select name, coalesce(nullif(tags ->> 'deltadex.base', ''), declared_base, '') as base, count(*)
        from model_versions where registry = %s and state in ('discovered', 'queued', 'running')
        group by name, base order by name, base
        """,
        [registry],
    ).fetchall()


def end_unbegun(tx: Transaction, registry: str) -> None:
    """End the shards of the backfill whose run has not begun."""
    found = tx.execute(
        """
        select id from shards
        where registry = %s and queue = 'backfill' and heartbeat_at is null and ended_at is null
        order by id for update
        """,
        [registry],
    ).fetchall()
    for (shard_id,) in found:
        end(tx, shard_id)


def end(tx: Transaction, shard_id: int) -> list[VersionRow]:
    """End a shard; its queued versions wait again. Returns those that were running, which the caller must settle."""
    tx.execute("update shards set ended_at = now() where id = %s and ended_at is null", [shard_id])
    tx.execute(
        """
        update model_versions set state = 'discovered', shard_id = null, flow_run_id = null
        where shard_id = %s and state = 'queued'
        """,
        [shard_id],
    )
    return _members(tx, shard_id, states=("running",))


def _members(tx: Transaction, shard_id: int, *, states: Collection[str]) -> list[VersionRow]:
    found = tx.execute(
        "select id from model_versions where shard_id = %s and state = any(%s)", [shard_id, list(states)]
    )
    rows = versions.by_ids(tx, [version_id for (version_id,) in found])
    return [rows[version_id] for version_id in sorted(rows)]
