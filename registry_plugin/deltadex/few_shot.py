"""What a few examples of a task do to a base (arXiv 2509.04442, few-shot task embedding): train, then embed as ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from deltadex import fetching, pipeline
from deltadex.activations.job import BaseModel, Finetune, Tuning
from deltadex.activations.process import EmbeddingProcess
from deltadex.activations.tuning_process import tune
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import inspect
from deltadex.domain import Embedding
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.examples import Example
from deltadex.governance import rules
from deltadex.limits import open_cache
from deltadex.mlflow_edge.registry import Registry
from deltadex.services import Services
from deltadex.settings import Settings, ThresholdSettings
from deltadex.store import task_searches
from deltadex.store.task_searches import TaskDelta

#: Called with the share of the work that is done.
OnShare = Callable[[float], None]
#: Fetching and digesting a base that lies here already takes no time; embedding is a few steps' worth.
_FETCHED, _TRAINED = 0.1, 0.9
_NEWS_SECONDS = 1.0

log = logging.getLogger(__name__)


def task_delta(
    settings: Settings,
    registry: Registry,
    base_name: str,
    examples: Sequence[Example],
    *,
    on_share: OnShare = lambda _: None,
) -> TaskDelta:
    """Train a small adapter on the examples, and return what it does to the base; the adapter is not kept.

    Raises
    ------
    DeltadexError
        The base can't be found, fetched, trained or embedded.
    """
    with open_cache(settings).holding() as hold, pipeline.embedding_process(settings) as process:
        checkpoint = inspect(fetching.base_files_of(settings, registry, base_name, hold)).fetch()
        base = fetching.base_model(settings, checkpoint)
        on_share(_FETCHED)
        with TemporaryDirectory(prefix="deltadex-find-") as folder:
            embedding = _embedded(settings, process, base, tuple(examples), Path(folder), on_share)
    weakness = _weakness(embedding, settings.thresholds)
    return TaskDelta(embedding.recipe.digest, embedding.vector, embedding.strength, embedding.probe_agreement, weakness)


def run(services: Services, search_id: int, *, flow_run_id: str) -> bool:
    """Do a search that was asked for, and return whether it ended well; False too where it had ended already."""
    settings, database = services.settings, services.database
    examples = database.run(lambda tx: task_searches.begin(tx, search_id, flow_run_id=flow_run_id))
    if examples is None:
        return False
    row = database.run(lambda tx: task_searches.get(tx, settings.registry, search_id))
    started, told_at = time.perf_counter(), 0.0

    def tell(share: float) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _NEWS_SECONDS:
            told_at = time.monotonic()
            database.run(lambda tx: task_searches.advance(tx, search_id, share))

    try:
        delta = task_delta(settings, services.registry, row.base_name, examples, on_share=tell)
    except Exception as error:
        stated = error if isinstance(error, DeltadexError) else _unforeseen(error)
        database.run(lambda tx: task_searches.fail(tx, search_id, reason=stated.message, hint=stated.hint))
        raise
    seconds = time.perf_counter() - started
    return database.run(lambda tx: task_searches.finish(tx, search_id, delta, seconds=seconds))


def _embedded(
    settings: Settings,
    process: EmbeddingProcess,
    base: BaseModel,
    examples: tuple[Example, ...],
    folder: Path,
    on_share: OnShare,
) -> Embedding:
    find, limits = settings.find, settings.embedding
    tune(
        Tuning(base, examples, steps=find.steps, learning_rate=find.learning_rate),
        folder,
        deadline_seconds=limits.deadline_seconds,
        memory_bytes=limits.memory_bytes,
        on_step=lambda done: on_share(_FETCHED + (_TRAINED - _FETCHED) * done / find.steps),
    )
    adapter = inspect(LocalFiles(folder)).fetch()
    finetune = Finetune(adapter, weights_digest(adapter))
    ((_, outcome),) = process.embed(base, [finetune], deadline_seconds=limits.deadline_seconds)
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def _weakness(embedding: Embedding, thresholds: ThresholdSettings) -> str:
    """Return why the examples' delta can't be placed, by the rule for versions; empty where it can."""
    [*weak] = rules.judge_weak(0, embedding, thresholds=thresholds)
    if not weak:
        return ""
    reason = weak[0].evidence["reason"]
    return (
        f"The examples change the base too little to say which models are for them: {reason} {weak[0].measure:.3f}, "
        f"and {weak[0].threshold:.3f} are needed. Give more examples, or some that are more alike."
    )


def _unforeseen(error: Exception) -> EmbeddingError:
    what = f"unexpected {type(error).__name__}: {error}"
    return EmbeddingError(what, hint="This is a bug in Deltadex: see the flow run's log.")
