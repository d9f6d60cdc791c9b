"""Few-shot task embedding (arXiv 2509.04442): train an adapter on a few examples and embed it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from deltadex.app import App
from deltadex.asked.progress import OnShare, progress_of
from deltadex.bases import resolve
from deltadex.bases.manner import manner_of
from deltadex.downloads.cache import open_cache
from deltadex.downloads.files import LocalFiles
from deltadex.engine import shared
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.plain_copies import plain_copy
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.find import queries as task_searches
from deltadex.find.halves import halves
from deltadex.find.queries import SEARCHES, TaskDelta
from deltadex.findings import rules
from deltadex.registry.client import Registry
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.types import Embedding

#: Progress after fetching the base, and after training. Fetching a cached base and embedding are quick.
_FETCHED, _TRAINED = 0.1, 0.9

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trainer:
    """Trains small adapters of one base on examples, and embeds them; the adapters are discarded."""

    settings: Settings
    process: EmbeddingProcess
    base: BaseModel

    def embedding(self, examples: Sequence[Example], *, on_share: OnShare = lambda _: None) -> Embedding:
        """Return the embedding of an adapter that is trained on the examples.

        Raises
        ------
        DeltadexError
            The base cannot be trained or embedded.
        """
        find, limits = self.settings.find, self.settings.embedding
        with TemporaryDirectory(prefix="deltadex-find-") as folder:
            given = Tuning(
                self.base, tuple(examples), Path(folder), find.steps, find.learning_rate, max_tokens=find.tokens
            )
            self.process.tune(
                given,
                deadline_seconds=limits.deadline_seconds,
                on_step=lambda done: on_share(_FETCHED + (_TRAINED - _FETCHED) * done / find.steps),
            )
            finetune = Finetune(self.process.inspect(LocalFiles(Path(folder))).fetch(), weights_digest="")
            ((_, outcome),) = self.process.embed(self.base, [finetune], deadline_seconds=limits.deadline_seconds)
        if isinstance(outcome, DeltadexError):
            raise outcome
        return outcome

    def delta(self, examples: Sequence[Example], *, on_share: OnShare = lambda _: None) -> TaskDelta:
        """Return the delta of an adapter that is trained on the examples, and how many halves of them are to follow.

        Raises
        ------
        DeltadexError
            As for `embedding`.
        """
        found = self.embedding(examples, on_share=on_share)
        weakness = _weakness(found, self.settings.thresholds)
        planned = 0 if weakness else len(halves(examples, self.settings.find.splits))
        return TaskDelta(
            found.recipe.digest, found.vector, found.strength, found.probe_agreement, weakness, halves_planned=planned
        )

    def with_halves(self, delta: TaskDelta, examples: Sequence[Example]) -> Iterator[TaskDelta]:
        """Yield the delta with one more trained half of the examples each time, as many as it plans.

        Raises
        ------
        DeltadexError
            As for `embedding`.
        """
        for half in halves(examples, self.settings.find.splits)[: delta.halves_planned]:
            delta = replace(delta, halves=(*delta.halves, self.embedding(half).vector))
            yield delta


@contextmanager
def trainer(settings: Settings, registry: Registry, base_name: str, *, method: str) -> Iterator[Trainer]:
    """Yield a trainer for a base, whose files are held until the end.

    Raises
    ------
    DeltadexError
        The base cannot be found or fetched.
    """
    with open_cache(settings).holding() as hold, shared.embedding_process(settings) as process:
        limits = settings.embedding
        files = resolve.base_files_of(settings, registry, base_name, hold)
        stored = process.inspect(files, read_pickles=limits.read_pickles).fetch()
        checkpoint = plain_copy(process, stored, hold, deadline_seconds=limits.deadline_seconds)
        yield Trainer(settings, process, shared.base_model(settings, process, checkpoint, method=method))


def run(app: App, search_id: int, *, flow_run_id: str) -> bool:
    """Run a search and return True if it is done; False if it had already ended.

    The answer is stored as soon as it is there. After that halves of the examples are trained and stored one by one; a
    failure among these leaves the answer as it is.
    """
    settings, database = app.settings, app.database
    examples = database.run(lambda tx: task_searches.begin(tx, search_id, flow_run_id=flow_run_id))
    if examples is None:
        return False
    row = database.run(lambda tx: task_searches.get(tx, settings.registry, search_id))
    started = time.perf_counter()
    report = progress_of(database, SEARCHES, search_id)
    with ExitStack() as stack:
        try:
            method, kept = database.run(lambda tx: manner_of(tx, settings, row.base_name))
            training = stack.enter_context(trainer(kept, app.registry, row.base_name, method=method))
            report(_FETCHED)
            delta = training.delta(examples, on_share=report)
        except Exception as error:
            cause = error if isinstance(error, DeltadexError) else _unexpected(error)
            database.run(lambda tx: SEARCHES.fail(tx, search_id, reason=cause.message, hint=cause.hint))
            raise
        seconds = time.perf_counter() - started
        is_done = database.run(lambda tx: task_searches.finish(tx, search_id, delta, seconds=seconds))
        if is_done:
            _repeat(app, search_id, training, delta, examples)
    return is_done


def _repeat(app: App, search_id: int, training: Trainer, delta: TaskDelta, examples: Sequence[Example]) -> None:
    try:
        for more in training.with_halves(delta, examples):
            app.database.run(partial(task_searches.add_half, search_id=search_id, vector=more.halves[-1]))
    except DeltadexError as error:
        log.warning("certainty not measured search=%d error=%s", search_id, error)
        app.database.run(lambda tx: task_searches.stop_halves(tx, search_id))


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
