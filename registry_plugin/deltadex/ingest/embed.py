"""Steps of the embedding flow after a version is resolved.

Flows wrap these functions; tests and other callers may chain them. Every step is idempotent: killed at any point and
run again, the version ends in the same state.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from deltadex.app import App
from deltadex.checkpoints.fit import Fit
from deltadex.embeddings.artifact import write_artifact
from deltadex.embeddings.summary import SUMMARY, summary
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.messages import OnProgress, ignore_progress
from deltadex.errors import (
    BaseMismatch,
    DeltadexError,
    EmbeddingError,
    NoLanguageModel,
    RegistryError,
    Resource,
    Shortage,
    StoreError,
    UnsupportedCheckpoint,
    is_disk_full,
)
from deltadex.findings import queries as findings
from deltadex.findings import rules
from deltadex.findings.license import judge_license
from deltadex.ingest.resolve import Fetched, Resolved
from deltadex.metrics import queries as metrics
from deltadex.registry.client import Run
from deltadex.registry.run_artifact import log_embedding
from deltadex.registry.tags import tag_embedded, tag_not_embedded
from deltadex.reviews import actions as reviews
from deltadex.store.database import Transaction
from deltadex.types import BASE_TAG, Embedding, FindingKind, RegisteredVersion, State, VersionRow
from deltadex.versions import license_queries as licenses
from deltadex.versions import queries as versions
from deltadex.versions import shards, transitions
from deltadex.versions.license_queries import DeclaredLicenses

_HEARTBEAT_SECONDS = 5.0

log = logging.getLogger(__name__)


def begin(app: App, version_id: int, *, attempt: int, flow_run_id: str) -> VersionRow | None:
    """Mark a version as running and return its row; None if it has ended, or a later attempt exists."""

    def take_on(tx: Transaction) -> VersionRow | None:
        is_ours = transitions.mark_running(tx, version_id, attempt=attempt, flow_run_id=flow_run_id)
        return versions.get(tx, version_id) if is_ours else None

    return app.database.run(take_on)


@contextmanager
def heartbeats(app: App, beat: Callable[[Transaction], bool], *, of: str) -> Iterator[None]:
    """Send a heartbeat every few seconds during the block; the watcher retries versions whose heartbeat stops.

    If the run was declared dead in the meantime, or the version was deleted, the process ends at once: no one waits for
    its result, and it holds a slot, memory and files.

    Parameters
    ----------
    beat
        Stores a heartbeat; False if this run is not the current one any more.
    of
        Name of the version or shard, for the log.
    """
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(_HEARTBEAT_SECONDS):
            try:
                is_current = app.database.run(beat)
            except StoreError as error:
                log.warning("heartbeat failed of=%s error=%r", of, error.message)
                continue
            if not is_current:
                log.error("superseded of=%s", of)
                os._exit(1)

    thread = threading.Thread(target=repeat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def heartbeats_of(app: App, row: VersionRow) -> AbstractContextManager[None]:
    """Return the heartbeats of a version with a run of its own."""
    return heartbeats(app, lambda tx: transitions.heartbeat(tx, row.id, attempt=row.attempt), of=row.label)


def note_resolved(app: App, row: VersionRow, resolved: Resolved) -> None:
    """Store the version's base and both licences, and check these by `review.licenses`; no setting, no findings."""
    declared = DeclaredLicenses(
        of_finetune=resolved.version.tags.get("license", "").lower() or resolved.checkpoint.license,
        of_base=resolved.base.license,
    )
    license_findings = judge_license(
        row.id,
        resolved.base_name,
        of_base=declared.of_base,
        of_finetune=declared.of_finetune,
        allowed=app.settings.review.licenses,
    )

    def store(tx: Transaction) -> None:
        shards.set_base(tx, row.id, resolved.base_name)
        licenses.save(tx, row.id, declared)
        findings.replace(tx, license_findings, version_id=row.id, recipe_id=None, kinds=[FindingKind.LICENSE])

    app.database.run(store)


def embed(
    process: EmbeddingProcess,
    fetched: Fetched,
    *,
    deadline_seconds: float,
    on_progress: OnProgress = ignore_progress,
) -> Embedding:
    """Return the embedding of one finetune, computed in the embedding process.

    Raises
    ------
    DeltadexError
        Embedding failed.
    """
    outcomes = process.embed(
        fetched.base, [fetched.finetune], deadline_seconds=deadline_seconds, on_progress=on_progress
    )
    ((_, outcome),) = outcomes
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def write_back(
    app: App,
    version: RegisteredVersion,
    embedding: Embedding,
    *,
    base_name: str,
    fit: Fit,
    seconds: Mapping[str, float],
    run: Run | None = None,
) -> str:
    """Log vector, manifest and summary to the version's run, tag the version, and return the artifact's URI.

    Parameters
    ----------
    run
        The version's run, if it was read already.
    """
    manifest = {
        "model": version.ref.name,
        "version": version.ref.version,
        "created_ms": version.ref.created_ms,
        "source": version.source,
        "base": base_name,
        "fit": asdict(fit),
        "seconds": dict(seconds),
        "embedded_at": datetime.now(UTC).isoformat(),
    }
    link = app.settings.version_link(version.ref.name, version.ref.version)
    with tempfile.TemporaryDirectory(prefix="deltadex-") as folder:
        write_artifact(embedding, Path(folder), manifest=manifest, key=app.settings.sealing_key)
        page = summary(version, embedding, base_name=base_name, link=link)
        Path(folder, SUMMARY).write_text(page, encoding="utf-8")
        artifact_uri = log_embedding(app.registry, version, embedding, folder=Path(folder), run=run)
    tag_embedded(app.registry, version, embedding, artifact_uri=artifact_uri, link=link)
    return artifact_uri


def stated(error: Exception, row: VersionRow) -> DeltadexError:
    """Return what an unexpected error is to the version: a full disk can be waited for, all else is a bug."""
    if isinstance(error, DeltadexError):
        return error
    if is_disk_full(error):
        hint = "Free disk space where the worker runs."
        return Shortage(f"The worker's disk is full: {error}", hint=hint, resource=Resource.DISK, more_than=0)
    log.error("unexpected version=%s", row.label, exc_info=error)
    message = f"unexpected {type(error).__name__}: {error}"
    return EmbeddingError(message, hint="This is a bug in Deltadex: see the flow run's log.")


def note(app: App, row: VersionRow, error: DeltadexError) -> None:
    """Record the reason of an error before its attempt is tried again: it may be the last one that is stated."""
    try:
        app.database.run(lambda tx: transitions.note_error(tx, row.id, error, attempt=row.attempt))
    except StoreError as failure:
        log.warning("reason not recorded version=%s error=%r", row.label, failure.message)


def give_up(app: App, row: VersionRow, error: DeltadexError) -> State:
    """Record why a version can't be embedded, and return the state it is now in."""
    state = _state_after(error, row.registered)

    def end(tx: Transaction) -> None:
        if isinstance(error, Shortage):
            is_current = transitions.mark_waiting(tx, row.id, error, attempt=row.attempt)
        else:
            is_current = transitions.mark_ended(
                tx, row.id, state=state, reason=error.message, hint=error.hint, attempt=row.attempt
            )
        if is_current and isinstance(error, BaseMismatch):
            mismatch = rules.wrong_base(row.id, error.message, measure=error.measure, threshold=error.threshold)
            findings.replace(tx, [mismatch], version_id=row.id, recipe_id=None, kinds=[FindingKind.WRONG_BASE])
        reviews.follow(tx, app.settings, name=row.registered.ref.name)
        if is_current:
            metrics.add_error(tx, app.settings.registry, type(error).__name__)

    app.database.run(end)
    try:
        tag_not_embedded(app.registry, row.registered, state, reason=error.message)
    except RegistryError as failure:
        # The tag only informs people in the MLflow UI; our own state is already written.
        log.warning("not tagged version=%s error=%r", row.label, failure.message)
    return state


def _state_after(error: DeltadexError, version: RegisteredVersion) -> State:
    if isinstance(error, Shortage):
        return State.WAITING
    # A version whose tag names a base claims to be a finetune: a person should see why it is none.
    if isinstance(error, NoLanguageModel) and BASE_TAG not in version.tags:
        return State.SKIPPED
    return State.UNSUPPORTED if isinstance(error, UnsupportedCheckpoint) else State.FAILED
