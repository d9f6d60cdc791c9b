"""Steps of the safety flow: fetch a version, read the prompts with it, and with its base once, and judge."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from deltadex.app import App
from deltadex.asked.progress import OnShare, progress_of
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine import shared
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.requests import BaseModel
from deltadex.findings import queries as findings
from deltadex.ingest.embed import heartbeats, stated
from deltadex.ingest.private_probes import PrivatelyRead, read_privately, store_privately_read
from deltadex.ingest.resolve import digest_as_embedded, fetch, resolve, workspace
from deltadex.reviews import actions as reviews
from deltadex.safety import queries as safety
from deltadex.safety.ask import recipe_digest
from deltadex.safety.judge import judge_safety, verdict_of
from deltadex.safety.measure import DEPTH, SafetyBase, SafetyReading, SafetyStates, base_of, read
from deltadex.safety.probes import REFUSAL_OPENINGS, safety_probes
from deltadex.safety.queries import SAFETY
from deltadex.safety.reads import threshold_for
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow
from deltadex.versions.queries import by_ids

#: Progress after fetching the model, and after its base was read.
_FETCHED, _READ_BASE = 0.1, 0.7


@dataclass(frozen=True)
class _Measured:
    """Result of a flow, before it is stored."""

    reading: SafetyReading
    weights_digest: str
    base_digest: str
    probes_digest: str
    private: PrivatelyRead | None


def run(app: App, request_id: int, *, flow_run_id: str) -> bool:
    """Run a measurement and return True if it is done; False if it had already ended.

    The reason of a failure is stored with the request, and raised.
    """
    database, settings = app.database, app.settings
    wanted = database.run(lambda tx: SAFETY.begin(tx, request_id, flow_run_id=flow_run_id))
    if wanted is None:
        return False
    row = database.run(lambda tx: safety.get(tx, settings.registry, request_id))
    version = database.run(lambda tx: by_ids(tx, [row.version_id]))[row.version_id]
    started = time.perf_counter()
    try:
        with heartbeats(
            app, lambda tx: SAFETY.beat(tx, request_id, flow_run_id=flow_run_id), of=f"safety {request_id}"
        ):
            found = _measure(app, version, progress_of(database, SAFETY, request_id))
    except Exception as error:
        cause = stated(error, version)
        database.run(lambda tx: SAFETY.fail(tx, request_id, reason=cause.message, hint=cause.hint))
        raise
    seconds = time.perf_counter() - started
    return database.run(lambda tx: _store(tx, settings, request_id, version, found, seconds=seconds))


def _measure(app: App, version: VersionRow, on_share: OnShare) -> _Measured:
    probes_digest = recipe_digest()
    with ExitStack() as stack:
        process = stack.enter_context(shared.embedding_process(app.settings))
        hold = stack.enter_context(workspace(app, version))
        fetched = fetch(app, process, resolve(app, process, version, hold), hold)
        digest = digest_as_embedded(version, fetched)
        on_share(_FETCHED)
        engine = _Engine(process, fetched.base, app.settings.safety.deadline_seconds)
        base = _base(app, engine, probes_digest, on_share)
        states = engine.states(
            fetched.finetune.checkpoint,
            safety_probes().of_all,
            lambda share: on_share(_READ_BASE + (1 - _READ_BASE) * share),
        )
        private = read_privately(app, process, fetched, digest)
    return _Measured(read(states, base), digest, fetched.base.digest, probes_digest, private)


@dataclass(frozen=True)
class _Engine:
    """Reads prompts with a base and its finetunes."""

    process: EmbeddingProcess
    base: BaseModel
    deadline_seconds: float

    def states(
        self, checkpoint: LocalCheckpoint | None, prompts: tuple[str, ...], on_share: Callable[[float], None]
    ) -> SafetyStates:
        """Return the states of a finetune, or of the base itself."""
        found = self.process.chat_states(
            self.base,
            checkpoint,
            prompts,
            openings=REFUSAL_OPENINGS,
            depth=DEPTH,
            deadline_seconds=self.deadline_seconds,
            on_share=on_share,
        )
        return SafetyStates(*found)


def _base(app: App, engine: _Engine, probes_digest: str, on_share: OnShare) -> SafetyBase:
    """Return the directions of a base, learned now if no version of it was measured before."""
    database, digest = app.database, engine.base.digest
    known = database.run(lambda tx: safety.base(tx, digest, probes_digest))
    if known is not None:
        return known
    started, probes = time.perf_counter(), safety_probes()
    states = engine.states(
        None,
        (*probes.of_all, *probes.of_base),
        lambda share: on_share(_FETCHED + (_READ_BASE - _FETCHED) * share),
    )
    found, seconds = base_of(states, probes), time.perf_counter() - started
    database.run(lambda tx: safety.save_base(tx, digest, probes_digest, found, seconds=seconds))
    # Another worker may have been the first: all versions are measured along the directions that are stored.
    stored = database.run(lambda tx: safety.base(tx, digest, probes_digest))
    return stored or found


def _store(
    tx: Transaction, settings: Settings, request_id: int, version: VersionRow, found: _Measured, *, seconds: float
) -> bool:
    """Store a measurement, and judge its version again, and those whose verdict it changes by the threshold."""
    is_done = safety.finish(
        tx,
        request_id,
        found.reading,
        weights_digest=found.weights_digest,
        base_digest=found.base_digest,
        probes_digest=found.probes_digest,
        seconds=seconds,
    )
    if is_done and found.private is not None:
        store_privately_read(tx, settings, version.id, found.private)
    if is_done:
        judge_again(tx, settings, found.base_digest, found.probes_digest, arrived=version.id)
    return is_done


def judge_again(tx: Transaction, settings: Settings, base_digest: str, probes_digest: str, *, arrived: int) -> None:
    """Judge the versions of a base by the threshold that an arrival has calibrated."""
    base = safety.base(tx, base_digest, probes_digest)
    if base is None:
        return
    readings = safety.current(tx, settings.registry, base_digest, probes_digest)
    known, names = safety.collapsed(tx, readings), set()
    rows = by_ids(tx, list(readings))
    for version_id, reading in readings.items():
        threshold = threshold_for(version_id, readings, base, settings)
        if version_id != arrived and (not base.lacks and reading.gap / base.reading.gap < threshold.value) == (
            version_id in known
        ):
            continue
        verdict = verdict_of(reading, base.reading, lacks=base.lacks, threshold=threshold)
        judged = judge_safety(version_id, reading, verdict)
        findings.replace(tx, judged, version_id=version_id, recipe_id=None, kinds=[FindingKind.SAFETY_COLLAPSED])
        names.add(rows[version_id].registered.ref.name)
    for name in sorted(names):
        reviews.follow(tx, settings, name=name)
