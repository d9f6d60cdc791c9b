"""The way of one model version, step by step; `fetching` has its first ones.

Flows wrap these functions; tests and other callers may chain them.

Each step may be repeated: killed at any point and run again, the version ends in the same state.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from deltadex import reviews
from deltadex.activations.artifact import write_artifact
from deltadex.activations.job import OnProgress, ignore_progress
from deltadex.activations.process import EmbeddingProcess, end_shared
from deltadex.checkpoints.fit import Fit
from deltadex.checkpoints.imprint import Imprint
from deltadex.checkpoints.license import declared_license
from deltadex.comparing import calibration_for_arrivals, duplicates_of, nearest, refresh_same_task
from deltadex.domain import Embedding, FindingKind, RegisteredVersion, State, VersionRow
from deltadex.drifting import judge_model
from deltadex.errors import BaseMismatch, DeltadexError, RegistryError, Shortage, StoreError, UnsupportedCheckpoint
from deltadex.fetching import Fetched, Resolved
from deltadex.governance import rules
from deltadex.governance.licenses import judge_license
from deltadex.labels import contradicted_labels
from deltadex.mlflow_edge.provenance import read_provenance
from deltadex.mlflow_edge.write_back import log_embedding, tag_embedded, tag_not_embedded
from deltadex.services import Services
from deltadex.settings import Settings
from deltadex.store import embeddings, findings, imprints, version_changes, versions, words
from deltadex.store.database import Transaction

_HEARTBEAT_SECONDS = 5.0
_JUDGED = (
    FindingKind.EXACT_DUPLICATE,
    FindingKind.NEAR_DUPLICATE,
    FindingKind.SAME_TASK,
    FindingKind.TOO_WEAK,
    FindingKind.WRONG_BASE,
)

log = logging.getLogger(__name__)


def begin(services: Services, version_id: int, *, attempt: int, flow_run_id: str) -> VersionRow | None:
    """Take a version on; None when there is nothing to do (deleted meanwhile, or a later attempt exists)."""

    def take_on(tx: Transaction) -> VersionRow | None:
        is_ours = version_changes.mark_running(tx, version_id, attempt=attempt, flow_run_id=flow_run_id)
        return versions.get(tx, version_id) if is_ours else None

    return services.database.run(take_on)


def embedding_process(settings: Settings) -> EmbeddingProcess:
    """Return a connection to the embedding process that all workers of this machine and data folder share."""
    return EmbeddingProcess(
        shared_by=str(settings.data_dir.absolute()),
        keep_warm_seconds=settings.embedding.keep_warm_seconds,
        memory_bytes=settings.embedding.memory_bytes,
    )


def end_embedding_process(settings: Settings) -> None:
    """End the process that `embedding_process` connects to, where it still waits for work."""
    end_shared(str(settings.data_dir.absolute()))


@contextmanager
def alive(services: Services, version_id: int) -> Iterator[None]:
    """Say every few seconds that this version is being worked on; the reconciler revives those that fall silent."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_HEARTBEAT_SECONDS):
            try:
                services.database.run(lambda tx: version_changes.heartbeat(tx, version_id))
            except StoreError as error:
                log.warning("heartbeat failed version_id=%d error=%r", version_id, error.message)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def check_license(services: Services, row: VersionRow, resolved: Resolved) -> None:
    """Find whether the base's licence is one that the settings allow, and still the finetune's; they may not ask."""
    found = []
    if allowed := services.settings.review.licenses:
        of_base = declared_license(resolved.base)
        of_finetune = resolved.version.tags.get("license", "").lower() or declared_license(resolved.checkpoint)
        found = judge_license(row.id, resolved.base_name, of_base=of_base, of_finetune=of_finetune, allowed=allowed)
    services.database.run(
        lambda tx: findings.replace(tx, found, version_id=row.id, recipe_id=None, kinds=[FindingKind.LICENSE])
    )


def embed(
    process: EmbeddingProcess,
    fetched: Fetched,
    *,
    deadline_seconds: float,
    on_progress: OnProgress = ignore_progress,
) -> Embedding:
    """Run finetune and base over the probes, in the embedding process."""
    outcomes = process.embed(
        fetched.base, [fetched.finetune], deadline_seconds=deadline_seconds, on_progress=on_progress
    )
    ((_, outcome),) = outcomes
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def write_back(
    services: Services,
    version: RegisteredVersion,
    embedding: Embedding,
    *,
    base_name: str,
    fit: Fit,
    seconds: Mapping[str, float],
) -> str:
    """Log vector and manifest to the version's run, tag the version, and return the artifact's URI."""
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
    with tempfile.TemporaryDirectory(prefix="deltadex-") as folder:
        write_artifact(embedding, Path(folder), manifest=manifest)
        artifact_uri = log_embedding(services.registry, version, embedding, folder=Path(folder))
    link = services.settings.version_link(version.ref.name, version.ref.version)
    tag_embedded(services.registry, version, embedding, artifact_uri=artifact_uri, link=link)
    return artifact_uri


def store_and_find(
    services: Services,
    row: VersionRow,
    embedding: Embedding,
    *,
    base_name: str,
    artifact_uri: str,
    weights_bytes: int | None = None,
    imprint: Imprint | None = None,
) -> int:
    """Store the embedding and what follows from it in one transaction; return how many findings concern the version.

    The recipe is locked meanwhile: of two duplicates stored at the same moment, the second sees the first.
    """
    thresholds = services.settings.thresholds
    weak = rules.judge_weak(row.id, embedding, thresholds=thresholds)
    provenance = read_provenance(services.registry, row.registered, weights_bytes=weights_bytes)

    def store(tx: Transaction) -> int:
        embeddings.lock_recipe(tx, embedding.recipe)
        recipe_id = embeddings.save(
            tx,
            row.id,
            embedding,
            base_name=base_name,
            artifact_uri=artifact_uri,
            is_weak=bool(weak),
            provenance=provenance,
        )
        words.save(tx, row.id, recipe_id, embedding)
        if imprint is not None:
            imprints.save(tx, row.id, recipe_id, embedding, imprint)
        calibration = calibration_for_arrivals(tx, recipe_id, services.settings.registry, thresholds=thresholds)
        near = nearest(tx, row)
        found = weak or duplicates_of(tx, row, recipe_id, near, calibration=calibration)
        before = findings.naming(tx, row.id)
        findings.replace(tx, found, version_id=row.id, recipe_id=recipe_id, kinds=_JUDGED)
        refresh_same_task(tx, row, recipe_id, calibration=calibration, before=before)
        drifts = judge_model(tx, row.registered.ref, thresholds=thresholds)
        labels = contradicted_labels(tx, row, near, recipe_id=recipe_id, thresholds=thresholds)
        for version_id, contradicted in labels.items():
            kinds = [FindingKind.LABEL_CONTRADICTED]
            findings.replace(tx, contradicted, version_id=version_id, recipe_id=recipe_id, kinds=kinds)
        reviews.follow(tx, services.settings, name=row.registered.ref.name)
        return len(found) + drifts.count(row.id) + len(labels[row.id])

    return services.database.run(store)


def give_up(services: Services, row: VersionRow, error: DeltadexError) -> State:
    """Bring a version that can't be embedded into a visible state with its reason, and return that state."""
    state = _state_after(error)

    def end(tx: Transaction) -> None:
        if isinstance(error, Shortage):
            version_changes.mark_waiting(tx, row.id, error, attempt=row.attempt)
            return
        is_current = version_changes.mark_ended(
            tx, row.id, state=state, reason=error.message, hint=error.hint, attempt=row.attempt
        )
        if is_current and isinstance(error, BaseMismatch):
            wrong = rules.wrong_base(row.id, error.message, measure=error.measure, threshold=error.threshold)
            findings.replace(tx, [wrong], version_id=row.id, recipe_id=None, kinds=[FindingKind.WRONG_BASE])
        reviews.follow(tx, services.settings, name=row.registered.ref.name)

    services.database.run(end)
    try:
        tag_not_embedded(services.registry, row.registered, state, reason=error.message)
    except RegistryError as failure:
        # The tag is a courtesy; our own state is written already.
        log.warning("not tagged version=%s error=%r", row.label, failure.message)
    return state


def _state_after(error: DeltadexError) -> State:
    if isinstance(error, Shortage):
        return State.WAITING
    return State.UNSUPPORTED if isinstance(error, UnsupportedCheckpoint) else State.FAILED
