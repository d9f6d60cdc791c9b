"""Counts of work done and of versions that wait, without names of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltadex.store.database import Transaction
from deltadex.types import UNDER_WAY, Queue, State

_ADD = """
    insert into work_done as known (registry, kind, name, count, seconds, bytes) values (%s, %s, %s, %s, %s, %s)
    on conflict (registry, kind, name) do update set
        count = known.count + excluded.count, seconds = known.seconds + excluded.seconds,
        bytes = known.bytes + excluded.bytes
"""


@dataclass(frozen=True)
class Work:
    """Total of one step or one kind of error, over all flow runs.

    Attributes
    ----------
    kind
        `step` or `error`.
    name
        Name of the step, class of the error, or `died`.
    bytes
        Size of the weights that the step read.
    """

    kind: str
    name: str
    count: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Numbers:
    """Numbers of one registry.

    Attributes
    ----------
    versions
        Number of versions by state and queue.
    oldest_seconds
        Age of the oldest version that still awaits an outcome, by queue.
    poll_age_seconds
        Time since the last successful poll; None before the first.
    witnesses
        Number of witnesses of the decision log by state: `published`, `failing`, `contradicting`.
    """

    versions: Mapping[tuple[State, Queue], int]
    oldest_seconds: Mapping[Queue, float]
    open_shards: int
    work: Sequence[Work]
    poll_age_seconds: float | None
    witnesses: Mapping[str, int]


def add_steps(tx: Transaction, registry: str, each: Sequence[Mapping[str, float]], *, read_bytes: int) -> None:
    """Add the steps of versions, in seconds by name, and the size of the weights that they fetched.

    One of the last statements of a transaction: until it ends, others wait for these rows.
    """
    for name in sorted({name for seconds in each for name in seconds}):
        spent = [seconds[name] for seconds in each if name in seconds]
        tx.execute(_ADD, [registry, "step", name, len(spent), sum(spent), read_bytes if name == "fetch" else 0])


def add_error(tx: Transaction, registry: str, kind: str) -> None:
    """Add the error with which an attempt ended, by its class, or that its run died. Placed last, as `add_steps`."""
    tx.execute(_ADD, [registry, "error", kind, 1, 0, 0])


def read(tx: Transaction, registry: str) -> Numbers:
    """Return the present numbers of a registry and all of its workspaces."""
    rows = tx.execute(
        """
        select state, queue, count(*), extract(epoch from now() - min(discovered_at))::float8
        from model_versions where registry = %(server)s or starts_with(registry, %(server)s || '/')
        group by state, queue
        """,
        {"server": registry},
    ).fetchall()
    oldest: dict[Queue, float] = dict.fromkeys(Queue, 0.0)
    for state, queue, _, seconds in rows:
        if state in UNDER_WAY:
            oldest[Queue(queue)] = max(oldest[Queue(queue)], seconds)
    work = tx.execute(
        """
        select kind, name, sum(count)::bigint, sum(seconds), sum(bytes)::bigint from work_done
        where registry = %(server)s or starts_with(registry, %(server)s || '/') group by kind, name order by kind, name
        """,
        {"server": registry},
    )
    shards = tx.execute(
        """
        select count(*) from shards
        where ended_at is null and (registry = %(server)s or starts_with(registry, %(server)s || '/'))
        """,
        {"server": registry},
    ).fetchone()
    found = {(State(state), Queue(queue)): int(count) for state, queue, count, _ in rows}
    versions = {(state, queue): found.get((state, queue), 0) for state in State for queue in Queue}
    return Numbers(
        versions=versions,
        oldest_seconds=oldest,
        open_shards=shards[0] if shards else 0,
        work=[Work(*values) for values in work],
        poll_age_seconds=poll_age_seconds(tx, registry),
        witnesses=_witnesses(tx, registry),
    )


def _witnesses(tx: Transaction, registry: str) -> Mapping[str, int]:
    found = tx.execute(
        """
        select case when contradiction <> '' then 'contradicting' when error <> '' then 'failing' else 'published' end,
            count(*) from witnesses where registry = %s group by 1
        """,
        [registry],
    )
    return dict.fromkeys(("published", "failing", "contradicting"), 0) | dict(found.fetchall())


def poll_age_seconds(tx: Transaction, registry: str) -> float | None:
    """Return the time since MLflow, or any of its workspaces, was last polled with success; None before the first."""
    row = tx.execute(
        """
        select extract(epoch from now() - max(polled_at))::float8 from watchers
        where registry = %(server)s or starts_with(registry, %(server)s || '/')
        """,
        {"server": registry},
    ).fetchone()
    return row[0] if row else None
