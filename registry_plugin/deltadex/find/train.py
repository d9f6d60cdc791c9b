"""Few-shot task embedding (arXiv 2509.04442): train an adapter on a few examples and embed it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from deltadex.app import App
from deltadex.asked.progress import OnShare, progress_of
from deltadex.bases import resolve
from deltadex.bases.manner import manner_of
from deltadex.downloads.cache import open_cache
from deltadex.downloads.files import LocalFiles
from deltadex.engine import shared
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.messages import BaseModel, Finetune, Tuning
from deltadex.engine.plain_copies import plain_copy
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.find import queries as task_searches
from deltadex.find.queries import SEARCHES, TaskDelta
from deltadex.findings import rules
from deltadex.registry.client import Registry
from deltadex.settings import Settings, ThresholdSettings
from deltadex.types import Embedding

#: Progress after fetching the base, and after training. Fetching a cached base and embedding are quick.
_FETCHED, _TRAINED = 0.1, 0.9

log = logging.getLogger(__name__)


def task_delta(
    settings: Settings,
    registry: Registry,
    base_name: str,
    examples: Sequence[Example],
    *,
    method: str,
    on_share: OnShare = lambda _: None,
) -> TaskDelta:
    """Train a small adapter on the examples and return its delta; the adapter is discarded.

    Raises
    ------
    DeltadexError
        The base cannot be found, fetched, trained or embedded.
    """
    with open_cache(settings).holding() as hold, shared.embedding_process(settings) as process:
        limits = settings.embedding
        files = resolve.base_files_of(settings, registry, base_name, hold)
        stored = process.inspect(files, read_pickles=limits.read_pickles).fetch()
        checkpoint = plain_copy(process, stored, hold, deadline_seconds=limits.deadline_seconds)
        base = shared.base_model(settings, process, checkpoint, method=method)
        on_share(_FETCHED)
        with TemporaryDirectory(prefix="deltadex-find-") as folder:
            embedding = _train_and_embed(settings, process, base, tuple(examples), Path(folder), on_share)
    weakness = _weakness(embedding, settings.thresholds)
    return TaskDelta(embedding.recipe.digest, embedding.vector, embedding.strength, embedding.probe_agreement, weakness)


def run(app: App, search_id: int, *, flow_run_id: str) -> bool:
    """Run a search and return True if it is done; False if it had already ended."""
    settings, database = app.settings, app.database
    examples = database.run(lambda tx: task_searches.begin(tx, search_id, flow_run_id=flow_run_id))
    if examples is None:
        return False
    row = database.run(lambda tx: task_searches.get(tx, settings.registry, search_id))
    started = time.perf_counter()
    report = progress_of(database, SEARCHES, search_id)
    try:
        method, kept = database.run(lambda tx: manner_of(tx, settings, row.base_name))
        delta = task_delta(kept, app.registry, row.base_name, examples, method=method, on_share=report)
    except Exception as error:
        cause = error if isinstance(error, DeltadexError) else _unexpected(error)
        database.run(lambda tx: SEARCHES.fail(tx, search_id, reason=cause.message, hint=cause.hint))
        raise
    seconds = time.perf_counter() - started
    return database.run(lambda tx: task_searches.finish(tx, search_id, delta, seconds=seconds))


def _train_and_embed(
    settings: Settings,
    process: EmbeddingProcess,
    base: BaseModel,
    examples: tuple[Example, ...],
    folder: Path,
    on_share: OnShare,
) -> Embedding:
    find, limits = settings.find, settings.embedding
    process.tune(
        Tuning(base, examples, folder, steps=find.steps, learning_rate=find.learning_rate),
        deadline_seconds=limits.deadline_seconds,
        on_step=lambda done: on_share(_FETCHED + (_TRAINED - _FETCHED) * done / find.steps),
    )
    finetune = Finetune(process.inspect(LocalFiles(folder)).fetch(), weights_digest="")  # it is discarded
    ((_, outcome),) = process.embed(base, [finetune], deadline_seconds=limits.deadline_seconds)
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def _weakness(embedding: Embedding, thresholds: ThresholdSettings) -> str:
    """Return the reason why the examples' delta is too weak to place, by the rule for versions; empty if it is not."""
    [*weak] = rules.judge_weak(0, embedding, thresholds=thresholds)
    if not weak:
        return ""
    reason = weak[0].evidence["reason"]
    return (
        f"The examples change the base too little to find models for them: {reason} {weak[0].measure:.3f}, "
        f"needed {weak[0].threshold:.3f}. Give more examples, or examples that are more alike."
    )


def _unexpected(error: Exception) -> EmbeddingError:
    message = f"unexpected {type(error).__name__}: {error}"
    return EmbeddingError(message, hint="This is a bug in Deltadex: see the flow run's log.")
