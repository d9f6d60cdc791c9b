"""Steps of the advice flow: find candidates, score them, base, prompt and few-shot finetunes, and compare."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from deltadex.access import Person, Role
from deltadex.advise import queries as advice
from deltadex.advise.advice import Advice, AskedTask, advice_of
from deltadex.advise.costs import Tariff
from deltadex.advise.estimate import BATCH
from deltadex.advise.folds import FoldedTask, prompt_of
from deltadex.advise.measured import Candidate, Readings, Unscored
from deltadex.advise.queries import ADVICE, AdviceRow
from deltadex.advise.selectors import SELECTORS, contexts
from deltadex.app import App
from deltadex.asked.progress import OnShare, progress_of
from deltadex.bases.manner import manner_of
from deltadex.downloads.cache import open_cache
from deltadex.downloads.files import LocalFiles
from deltadex.engine import shared
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Scored, Scoring
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.find.search import models_for
from deltadex.find.train import trainer
from deltadex.ingest.embed import heartbeats
from deltadex.ingest.resolve import Bases, fetch, resolve, workspace
from deltadex.settings import Settings
from deltadex.types import VersionRow
from deltadex.versions.queries import by_ids

#: Among so many nearest versions are the candidates, one of each registered model.
_NEAREST = 30
#: Tokens of an example that training reads.
_TRAINED_TOKENS = 256
#: Progress after the candidates were found.
_FOUND = 0.25
_ABSENT = "No registered finetune of this base was found, or may be seen: reuse was not measured."

log = logging.getLogger(__name__)


def run(app: App, request_id: int, *, flow_run_id: str) -> bool:
    """Run an advice and return True if it is done; False if it had already ended.

    The reason of a failure is stored with the request, and raised.
    """
    database, registry = app.database, app.settings.registry
    examples = database.run(lambda tx: advice.begin(tx, request_id, flow_run_id=flow_run_id))
    if examples is None:
        return False
    row = database.run(lambda tx: advice.get(tx, registry, request_id))
    started = time.perf_counter()
    try:
        with heartbeats(
            app, lambda tx: ADVICE.beat(tx, request_id, flow_run_id=flow_run_id), of=f"advice {request_id}"
        ):
            found = _advise(app, row, examples, progress_of(database, ADVICE, request_id))
    except Exception as error:
        cause = _stated(error)
        database.run(lambda tx: ADVICE.fail(tx, request_id, reason=cause.message, hint=cause.hint))
        raise
    seconds = time.perf_counter() - started
    return database.run(lambda tx: advice.finish(tx, request_id, found, seconds=seconds))


def _advise(app: App, row: AdviceRow, examples: Sequence[Example], on_share: OnShare) -> Advice:
    settings, wanted = app.settings, row.wanted
    task = FoldedTask.of(examples, folds=settings.advise.folds)
    versions, similarities, note = _candidates(app, row, task)
    on_share(_FOUND)
    with open_cache(settings).holding() as hold, shared.embedding_process(settings) as process:
        base = Bases(app, hold).fetch(row.base_name, process)
        models = 2 + len(versions) + wanted.is_trained
        scoring = _Scorer(process, base, task, settings, _Steps(on_share, models))
        plain, prompted = scoring.base(wanted.selector, wanted.shots)
        scored: list[tuple[Candidate, list[Scored]]] = []
        unscored: list[Unscored] = []
        for version in versions:
            candidate = Candidate(version.id, version.label, similarities.get(version.id))
            try:
                scored.append((candidate, _score_version(app, scoring, version)))
            except DeltadexError as error:
                if error.retryable:
                    raise
                unscored.append(Unscored(candidate, error.message))
        trained, seconds = scoring.trained() if wanted.is_trained else (None, 0.0)
    tokens = round(settings.advise.steps * BATCH * sum(one.prompt_tokens + one.tokens for one in plain) / len(plain))
    readings = Readings(plain, prompted, [each for _, each in scored], trained, tokens, seconds)
    rate = tokens / seconds * 3600 if seconds else None
    return advice_of(
        task,
        AskedTask(row.base_name, wanted.selector, wanted.shots, settings.advise.margin, tuple(unscored), note),
        [candidate for candidate, _ in scored],
        readings,
        tariff=Tariff.of(settings.costs, wanted.calls_per_month, training_rate=rate),
    )


def _candidates(app: App, row: AdviceRow, task: FoldedTask) -> tuple[list[VersionRow], dict[int, float], str]:
    """Return the versions to score, the similarities of those that were found, and why there are none."""
    settings, database = app.settings, app.database
    if row.wanted.candidates:
        rows = database.run(lambda tx: by_ids(tx, row.wanted.candidates))
        return [rows[each] for each in row.wanted.candidates], {}, ""
    method, kept = database.run(lambda tx: manner_of(tx, settings, row.base_name))
    with trainer(kept, app.registry, row.base_name, method=method) as training:
        delta = training.delta(task.examples)
    viewer = Person(row.asked_by, Role.VIEWER, row.sees)
    found = database.run(lambda tx: models_for(tx, viewer, settings, delta, k=_NEAREST))
    nearest: dict[str, tuple[VersionRow, float]] = {}
    for one in found.models:
        name = one.version.registered.ref.name
        if viewer.sees(name):
            nearest.setdefault(name, (one.version, one.similarity))
    kept_versions = list(nearest.values())[: settings.advise.candidates]
    note = "" if kept_versions else found.note or _ABSENT
    return [version for version, _ in kept_versions], {one.id: near for one, near in kept_versions}, note


def _score_version(app: App, scoring: _Scorer, version: VersionRow) -> list[Scored]:
    with workspace(app, version) as hold:
        fetched = fetch(app, scoring.process, resolve(app, scoring.process, version, hold), hold)
        task = scoring.task
        return scoring.score(Scoring(fetched.base, fetched.finetune.checkpoint, task.examples))


class _Steps:
    """Progress over models of equal weight."""

    def __init__(self, on_share: OnShare, models: int) -> None:
        self._on_share = on_share
        self._models = models
        self._done = 0.0

    def part(self, weight: float = 1.0) -> Callable[[float], None]:
        """Return the report of the next part, of this weight in models."""
        before = self._done
        self._done += weight
        return lambda share: self._on_share(_FOUND + (1 - _FOUND) * min(1.0, (before + weight * share) / self._models))


@dataclass(frozen=True)
class _Scorer:
    """Scores models over the examples of a task."""

    process: EmbeddingProcess
    own_base: BaseModel
    task: FoldedTask
    settings: Settings
    steps: _Steps

    def score(self, request: Scoring, *, weight: float = 1.0) -> list[Scored]:
        """Return the scores of a request, cut as the settings say."""
        advise = self.settings.advise
        asked = Scoring(request.base, request.checkpoint, request.examples, request.contexts, advise.max_tokens)
        return self.process.score(asked, deadline_seconds=advise.deadline_seconds, on_share=self.steps.part(weight))

    def base(self, selector: str, shots: int) -> tuple[list[Scored], list[Scored]]:
        """Return the scores of the base alone, and with in-context examples."""
        examples, states = self.task.examples, None
        if SELECTORS[selector].reads_states:
            states = self.process.text_states(
                self.own_base, list(map(prompt_of, examples)), deadline_seconds=self.settings.advise.deadline_seconds
            )
        given = contexts(self.task, selector, shots=shots, states=states)
        both = Scoring(self.own_base, None, (*examples, *examples), (*((),) * len(examples), *given))
        scored = self.score(both, weight=2.0)
        return scored[: len(examples)], scored[len(examples) :]

    def trained(self) -> tuple[list[Scored], float]:
        """Return the scores of few-shot finetunes, each of the other folds, and the seconds of one training."""
        by_number: dict[int, Scored] = {}
        seconds = 0.0
        for fold in range(self.task.fold_count):
            inside = [number for number, own in enumerate(self.task.folds) if own == fold]
            with TemporaryDirectory(prefix="deltadex-advise-") as folder:
                started = time.perf_counter()
                self._train([self.task.examples[number] for number in self.task.outside(fold)], Path(folder))
                seconds += time.perf_counter() - started
                checkpoint = self.process.inspect(LocalFiles(Path(folder))).fetch()
                examples = tuple(self.task.examples[number] for number in inside)
                weight = 1 / self.task.fold_count
                scored = self.score(Scoring(self.own_base, checkpoint, examples), weight=weight)
            by_number |= dict(zip(inside, scored, strict=True))
        return [by_number[number] for number in sorted(by_number)], seconds / self.task.fold_count

    def _train(self, examples: Sequence[Example], folder: Path) -> None:
        advise = self.settings.advise
        request = Tuning(
            self.own_base,
            tuple(examples),
            folder,
            advise.steps,
            advise.learning_rate,
            batch=BATCH,
            max_tokens=min(_TRAINED_TOKENS, advise.max_tokens),
            as_scored=True,
        )
        self.process.tune(request, deadline_seconds=advise.deadline_seconds)


def _stated(error: Exception) -> DeltadexError:
    if isinstance(error, DeltadexError):
        return error
    log.error("unexpected in an advice", exc_info=error)
    message = f"unexpected {type(error).__name__}: {error}"
    return EmbeddingError(message, hint="This is a bug in Deltadex: see the flow run's log.")
