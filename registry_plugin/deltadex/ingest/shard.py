"""Embedding of a shard: its versions are read and fetched ahead, embedded together, and recorded behind.

Each version ends on its own, as in a flow run of its own. The engine takes those that are ready; threads overlap the
requests to MLflow with it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

from deltadex.app import App
from deltadex.downloads.cache import Hold, open_cache
from deltadex.engine import shared
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.messages import OnProgress, ignore_progress
from deltadex.errors import DeltadexError, Shortage
from deltadex.ingest.embed import give_up, heartbeats, note_resolved, stated, write_back
from deltadex.ingest.record import Embedded, store_and_find
from deltadex.ingest.resolve import Bases, Fetched, Resolved, fetch, resolve, workspace
from deltadex.ingest.revive import try_again
from deltadex.registry.training_metadata import provenance_of
from deltadex.store.database import Transaction
from deltadex.types import Embedding, ModelVersionRef, RegisteredVersion, State, VersionRow
from deltadex.versions import shards

#: Threads that read, fetch and write back; the work is waiting for MLflow.
_THREADS = 6
#: Versions that the engine takes at once: at least as many as make a pass worthwhile, at most as share one.
_FEWEST, _MOST = 8, 32
#: Versions fetched ahead of the engine, and batches recorded behind it.
_AHEAD, _BEHIND = 2 * _MOST, 2
#: Share of the cache that files fetched ahead may fill.
_SHARE_AHEAD = 0.25
#: Versions for which it is worth loading a base that is not the shard's most frequent one.
_WORTH_A_BASE = 16
_RETRY_SECONDS = (2.0, 10.0, 30.0)

log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(eq=False)
class Member:
    """A version of a shard, and how far it has come."""

    row: VersionRow
    hold: Hold
    #: Releases its files.
    stack: ExitStack
    resolved: Resolved
    fetched: Fetched | None = None
    seconds: dict[str, float] = field(default_factory=dict)


#: Called with each version that has ended or goes back to wait, its state, and the reason; by any thread.
OnEnded = Callable[[VersionRow, State, str], None]


def embed_shard(
    app: App,
    shard_id: int,
    *,
    flow_run_id: str,
    on_begin: Callable[[int], None] = lambda _: None,
    on_ended: OnEnded = lambda *_: None,
    on_part: OnProgress = ignore_progress,
) -> Counter[State] | None:
    """Embed the versions of a shard and return how many came to each state; None if the shard had ended.

    Versions that are not reached in time, or that turn out to have another base, stay queued and then wait again. One
    that fails for a passing reason waits again; after a death of the engine, for a run of its own.

    Parameters
    ----------
    on_begin
        Called with the number of versions.
    on_part
        As in `EmbeddingProcess.embed`.
    """
    rows = app.database.run(lambda tx: shards.begin(tx, shard_id, flow_run_id=flow_run_id))
    if rows is None:
        return None
    on_begin(len(rows))

    is_paused = threading.Event()

    def beat(tx: Transaction) -> bool:
        goes_on = shards.heartbeat(tx, shard_id, flow_run_id=flow_run_id)
        if goes_on is False:
            is_paused.set()
        return goes_on is not None

    with heartbeats(app, beat, of=f"shard {shard_id}"), ExitStack() as stack:
        run = _ShardRun(app, shard_id, stack, is_paused, on_ended, on_part)
        run.embed_all(rows)
        app.database.run(lambda tx: shards.end(tx, shard_id))
    return run.states


class _ShardRun:
    """One pass over a shard's versions."""

    def __init__(
        self,
        app: App,
        shard_id: int,
        stack: ExitStack,
        is_paused: threading.Event,
        on_ended: OnEnded,
        on_part: OnProgress,
    ) -> None:
        self._app = app
        self._shard_id = shard_id
        self._on_ended = on_ended
        self._on_part = on_part
        self._is_paused = is_paused
        self._stop_at = math.inf
        self._lock = threading.Lock()
        self._engine = stack.enter_context(shared.embedding_process(app.settings))
        self._processes: SimpleQueue[EmbeddingProcess] = SimpleQueue()
        for _ in range(_THREADS):
            self._processes.put(stack.enter_context(shared.embedding_process(app.settings)))
        self._bases = Bases(app, stack.enter_context(open_cache(app.settings).holding()))
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shard")
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="record")
        for executor in (self._threads, self._recorder):
            stack.callback(executor.shutdown, cancel_futures=True)
        self.states: Counter[State] = Counter()

    def embed_all(self, rows: Sequence[VersionRow]) -> None:
        """Bring each version to its end, or leave it queued."""
        try:
            registered = self._retrying(lambda: self._app.registry.read_all([row.registered for row in rows]))
        except DeltadexError as error:
            for row in rows:
                self._settle(row, error)
            return
        resolved = [
            member for member in self._threads.map(lambda row: self._resolve(row, registered.get), rows) if member
        ]
        # The clock starts here, so that each shard comes to its versions, however slow reading them is.
        self._stop_at = time.monotonic() + self._app.settings.shards.max_seconds
        recorded: deque[Future[None]] = deque()
        for group in self._of_worthwhile_bases(resolved):
            for batch in self._fetched(group):
                done = self._embed(batch)
                recorded.append(self._recorder.submit(self._write_and_record, done))
                while len(recorded) > _BEHIND:
                    recorded.popleft().result()
        for one in recorded:
            one.result()

    def _resolve(
        self, row: VersionRow, read_again: Callable[[ModelVersionRef], RegisteredVersion | None]
    ) -> Member | None:
        with ExitStack() as stack, self._process() as process:
            hold = stack.enter_context(workspace(self._app, row))

            def read() -> Resolved:
                found = resolve(self._app, process, row, hold, bases=self._bases, read_again=read_again)
                note_resolved(self._app, row, found)
                return found

            resolved = self._or_settle(row, read)
            return Member(row, hold, stack.pop_all(), resolved) if resolved else None

    def _of_worthwhile_bases(self, members: Sequence[Member]) -> list[list[Member]]:
        """Return the versions by base; those of a base with too few of them wait for a shard of that base."""
        groups: dict[str, list[Member]] = {}
        for member in members:
            groups.setdefault(member.resolved.base_name, []).append(member)
        most, *rest = sorted(groups.values(), key=len, reverse=True) or [[]]
        for group in rest:
            if len(group) < _WORTH_A_BASE:
                for member in group:
                    self._put_off(member)
        return [most, *(group for group in rest if len(group) >= _WORTH_A_BASE)]

    def _fetched(self, group: Sequence[Member]) -> Iterator[list[Member]]:
        """Yield batches of fetched versions, while others are fetched ahead: bounded in number, bytes and time."""
        limit = self._app.settings.cache.max_bytes * _SHARE_AHEAD
        waiting, ready, outstanding = deque(group), deque[Member](), dict[Future[bool], Member]()
        while waiting or outstanding or ready:
            if self._is_over():
                for member in waiting:
                    self._put_off(member)
                waiting.clear()
            ahead = sum(member.resolved.weights_bytes for member in (*ready, *outstanding.values()))
            while waiting and len(ready) + len(outstanding) < _AHEAD and (ahead <= limit or not (ready or outstanding)):
                member = waiting.popleft()
                ahead += member.resolved.weights_bytes
                outstanding[self._threads.submit(self._fetch, member)] = member
            if outstanding and len(ready) < _FEWEST:
                done, _ = wait(outstanding, return_when=FIRST_COMPLETED)
                ready.extend(member for future in done if (member := outstanding.pop(future)) and future.result())
            elif ready:
                for future in [future for future in outstanding if future.done()]:
                    member = outstanding.pop(future)
                    if future.result():
                        ready.append(member)
                yield [ready.popleft() for _ in range(min(_MOST, len(ready)))]

    def _fetch(self, member: Member) -> bool:
        started = time.perf_counter()
        with self._process() as process:
            member.fetched = self._or_settle(
                member.row,
                lambda: fetch(self._app, process, member.resolved, member.hold, bases=self._bases),
                member,
            )
        member.seconds["fetch"] = round(time.perf_counter() - started, 3)
        return member.fetched is not None

    def _embed(self, batch: Sequence[Member]) -> list[tuple[Member, Embedding]]:
        """Embed versions together; if that kills the engine, each alone, so that only the one to blame is blamed."""
        attempts = {member.row.id: member.row.attempt for member in batch}
        ours = self._app.database.run(lambda tx: shards.mark_running(tx, self._shard_id, attempts))
        for member in batch:
            if member.row.id not in ours:  # deleted, or requeued by a person
                self._put_off(member)
        members = [member for member in batch if member.row.id in ours]
        started = time.perf_counter()
        done: dict[Member, Embedding] = {}
        left = self._pass(members, done)
        for one in left:  # none, if there was only one
            self._pass([one], done)
        for member in done:
            member.seconds["embed"] = round((time.perf_counter() - started) / len(members), 3)
        return list(done.items())

    def _pass(self, members: Sequence[Member], done: dict[Member, Embedding]) -> list[Member]:
        """Embed versions in one request, and return those without an answer because the engine died or was stopped.

        One that is alone gets the engine's death as its own error.
        """
        fetched = [member.fetched for member in members if member.fetched]
        if not fetched:
            return []
        unanswered = dict(enumerate(members))
        deadline_seconds = self._app.settings.embedding.deadline_seconds
        try:
            for number, outcome in self._engine.embed(
                fetched[0].base,
                [one.finetune for one in fetched],
                deadline_seconds=deadline_seconds,
                on_progress=self._on_part,
            ):
                if isinstance(outcome, Shortage) and len(members) > 1:
                    continue  # one alone may fit
                member = unanswered.pop(number)
                if isinstance(outcome, DeltadexError):
                    self._settle(member.row, outcome, member)
                else:
                    done[member] = outcome
        except DeltadexError as error:
            log.warning("engine failed versions=%d error=%r", len(unanswered), error.message)
            if len(members) == 1:
                self._settle(members[0].row, error, members[0])
                return []
        return list(unanswered.values())

    def _write_and_record(self, embedded: Sequence[tuple[Member, Embedding]]) -> None:
        """Write embeddings back in parallel, then record them in one transaction."""
        arrived = [
            (member, one)
            for (member, _), one in zip(
                embedded, self._threads.map(lambda pair: self._write_back(*pair), embedded), strict=True
            )
            if one
        ]
        if arrived:
            self._record(arrived)

    def _record(self, arrived: Sequence[tuple[Member, Embedded]]) -> None:
        try:
            self._retrying(lambda: store_and_find(self._app, [one for _, one in arrived]))
        except DeltadexError as error:
            if len(arrived) > 1 and not error.retryable:  # one of them is to blame
                for each in arrived:
                    self._record([each])
                return
            for member, _ in arrived:
                self._settle(member.row, error, member)
        else:
            for member, _ in arrived:
                self._end(member.row, State.EMBEDDED, member)

    def _write_back(self, member: Member, embedding: Embedding) -> Embedded | None:
        resolved, fetched = member.resolved, member.fetched
        assert fetched is not None  # noqa: S101 - it was embedded

        def write() -> Embedded:
            started = time.perf_counter()
            uri = write_back(
                self._app,
                resolved.version,
                embedding,
                base_name=resolved.base_name,
                fit=fetched.fit,
                seconds=member.seconds,
                run=resolved.run,
            )
            member.seconds["write back"] = round(time.perf_counter() - started, 3)
            known = provenance_of(resolved.run, weights_bytes=fetched.weights_bytes)
            return Embedded(
                member.row,
                embedding,
                resolved.base_name,
                uri,
                known,
                fetched.weights,
                member.seconds,
            )

        return self._or_settle(member.row, write, member)

    @contextmanager
    def _process(self) -> Iterator[EmbeddingProcess]:
        """Take one of the processes that read checkpoints."""
        process = self._processes.get()
        try:
            yield process
        finally:
            self._processes.put(process)

    def _or_settle(self, row: VersionRow, action: Callable[[], R], member: Member | None = None) -> R | None:
        """Return the result of a version's step; if it fails, end the version with the reason and return None."""
        try:
            return self._retrying(action)
        except Exception as error:  # noqa: BLE001 - its reason is the version's
            self._settle(row, stated(error, row), member)
        return None

    def _settle(self, row: VersionRow, error: DeltadexError, member: Member | None = None) -> None:
        """End a version with its reason; after a passing error it waits again."""
        if error.retryable:
            state = self._app.database.run(lambda tx: try_again(tx, self._app.settings, row, error))
        else:
            state = give_up(self._app, row, error)
        self._end(row, state, member, reason=error.message)

    def _put_off(self, member: Member) -> None:
        """Leave a version to others: if it is still queued at the end of the shard, it waits again."""
        self._end(member.row, State.QUEUED, member)

    def _end(self, row: VersionRow, state: State, member: Member | None, *, reason: str = "") -> None:
        if member:
            member.stack.close()
        with self._lock:
            self.states[state] += 1
        self._on_ended(row, state, reason)

    def _is_over(self) -> bool:
        return self._is_paused.is_set() or time.monotonic() > self._stop_at

    def _retrying(self, action: Callable[[], R]) -> R:
        """Return the result of an action, tried again after passing errors."""
        for pause in _RETRY_SECONDS:
            try:
                return action()
            except DeltadexError as error:
                if not error.retryable or self._is_over():
                    raise
                log.warning("trying again in_seconds=%g error=%r", pause, error.message)
                time.sleep(pause)
        return action()
