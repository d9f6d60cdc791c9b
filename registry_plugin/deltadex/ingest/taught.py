"""Steps of the flow that searches a version for taught strings: fetch, continue texts, score listed strings, judge."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from deltadex.app import App
from deltadex.asked.progress import OnShare, progress_of
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.promoted_tokens import of_versions
from deltadex.engine import shared
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Elicitation, Scored, Scoring
from deltadex.errors import ExamplesError
from deltadex.findings import queries as findings
from deltadex.ingest.embed import heartbeats, stated
from deltadex.ingest.resolve import digest_as_embedded, fetch, resolve, workspace
from deltadex.store.database import Transaction
from deltadex.taught import detectors
from deltadex.taught import queries as taught
from deltadex.taught.canaries import Canary, read_canaries
from deltadex.taught.judge import ALTERNATIVES, ListedString, judge_taught, listed_string, strings_in
from deltadex.taught.queries import TAUGHT, Taught, TaughtGiven, TaughtRow
from deltadex.types import FindingKind, VersionRow, Word
from deltadex.versions.queries import by_ids

#: Progress after fetching the model, and after continuing the texts.
_FETCHED, _CONTINUED = 0.1, 0.8


def run(app: App, search_id: int, *, flow_run_id: str) -> bool:
    """Run a search and return True if it is done; False if it had already ended.

    The reason of a failure is stored with the search, and raised.
    """
    database, registry = app.database, app.settings.registry
    given = database.run(lambda tx: taught.begin(tx, search_id, flow_run_id=flow_run_id))
    if given is None:
        return False
    asked = database.run(lambda tx: taught.get(tx, registry, search_id))
    version = database.run(lambda tx: by_ids(tx, [asked.model_version_id]))[asked.model_version_id]
    started = time.perf_counter()
    try:
        detectors.require()
        with heartbeats(app, lambda tx: TAUGHT.beat(tx, search_id, flow_run_id=flow_run_id), of=f"search {search_id}"):
            on_share = progress_of(database, TAUGHT, search_id)
            digest, result = _searched(app, version, asked, _with_own(app, given), on_share)
        seconds = time.perf_counter() - started

        def store(tx: Transaction) -> bool:
            if not taught.finish(tx, search_id, result, weights_digest=digest, seconds=seconds):
                return False
            found = judge_taught(version.id, result.found, result.listed)
            findings.replace(tx, found, version_id=version.id, recipe_id=None, kinds=[FindingKind.TAUGHT])
            return True

        return database.run(store)
    except Exception as error:
        cause = stated(error, version)
        database.run(lambda tx: TAUGHT.fail(tx, search_id, reason=cause.message, hint=cause.hint))
        raise


def _with_own(app: App, given: TaughtGiven) -> TaughtGiven:
    """Add the canaries of the worker's own file, which is never copied into the database."""
    file = app.settings.taught.canaries_file
    if file is None:
        return given
    try:
        own = read_canaries(file.read_text(errors="replace"))
    except OSError as error:
        raise ExamplesError(
            f"The file of canaries can't be read: {error.strerror}", hint="DELTADEX_TAUGHT__CANARIES_FILE names it."
        ) from error
    return TaughtGiven((*given.canaries, *own), given.prompts)


def _searched(
    app: App, version: VersionRow, asked: TaughtRow, given: TaughtGiven, on_share: OnShare
) -> tuple[str, Taught]:
    """Return the weights digest of a version, and what it was taught."""
    settings, words = app.settings.taught, _promoted(app, version)
    with shared.embedding_process(app.settings) as process, workspace(app, version) as hold:
        one = fetch(app, process, resolve(app, process, version, hold), hold)
        digest = digest_as_embedded(version, one)
        on_share(_FETCHED)
        request = Elicitation(
            one.base,
            one.finetune.checkpoint,
            given.prompts,
            words,
            texts=asked.texts,
            max_new_tokens=settings.max_new_tokens,
            seconds=settings.seconds,
        )
        elicited = process.elicit(
            request,
            deadline_seconds=settings.deadline_seconds,
            on_share=lambda share: on_share(_FETCHED + (_CONTINUED - _FETCHED) * share),
        )
        scorer = _Scorer(process, one.base, settings.deadline_seconds)
        listed = tuple(scorer.likelihood_of(canary, one.finetune.checkpoint) for canary in given.canaries)
    found = strings_in(elicited.texts, given.canaries)
    kept = tuple(string for string in found if string.is_taught)
    # Of the owner's list nothing is kept that the finetune doesn't know.
    listed = tuple(string if string.is_taught else string.masked for string in listed)
    result = Taught(kept, listed, len(elicited.texts), elicited.tokens, elicited.is_whole)
    return digest, result


def _promoted(app: App, version: VersionRow) -> tuple[str, ...]:
    """Return the words that the version promotes, by its embedding; none if it has none."""

    def read(tx: Transaction) -> list[Word]:
        by_recipe = (of_versions(tx, one.recipe.id, [version.id]) for one in embeddings.of_version(tx, version.id))
        return [word for words in by_recipe if version.id in words for word in words[version.id].promoted]

    promoted = list(dict.fromkeys(word.text for word in app.database.run(read)))
    return tuple(f" {text}" for text in promoted[: app.settings.taught.words])


@dataclass(frozen=True)
class _Scorer:
    """Scores listed strings with the models of one process."""

    process: EmbeddingProcess
    base: BaseModel
    deadline_seconds: float

    def likelihood_of(self, canary: Canary, checkpoint: LocalCheckpoint) -> ListedString:
        """Return the likelihood of a listed string under finetune and base, among random strings of its form."""
        examples = examples_of(canary)
        own, base = (self._score(one, examples) for one in (checkpoint, None))
        return listed_string(canary, own, base)

    def _score(self, checkpoint: LocalCheckpoint | None, examples: Sequence[Example]) -> list[Scored]:
        request = Scoring(self.base, checkpoint, tuple(examples))
        return self.process.score(request, deadline_seconds=self.deadline_seconds)


def examples_of(canary: Canary) -> list[Example]:
    """Return what is scored for a listed string: the string after its prefix, then its alternatives."""
    prefix = canary.prefix.rstrip()
    blank = canary.prefix[len(prefix) :]
    texts = (canary.text, *canary.alternatives(ALTERNATIVES, seed=0))
    return [Example(prefix or "\n", f"{blank}{text}") for text in texts]
