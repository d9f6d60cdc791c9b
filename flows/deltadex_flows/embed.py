"""The flow `embed-model-version`: one model version from its files to its embedding and findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State as RunState
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.tasks import Task

from deltadex import fetching, pipeline
from deltadex.activations.process import EmbeddingProcess
from deltadex.checkpoints.cache import Hold
from deltadex.domain import Embedding, State, VersionRow
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.services import Services, open_services
from deltadex.settings import load_settings

P = ParamSpec("P")
R = TypeVar("R")

_STEPS = 5
_NEWS_SECONDS = 5.0


def is_retryable(_task: Task[..., Any], _run: TaskRun, state: RunState[Any]) -> bool:
    """Retry only what says of itself that it may work later."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, DeltadexError) and error.retryable


def _step(function: Callable[P, R], name: str, description: str) -> Task[P, R]:
    """Make a task; values pass between tasks in memory, so nothing is cached or pickled."""
    return Task(
        function,
        name=name,
        description=description,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=3,
        retry_delay_seconds=[2, 10, 30],
        retry_jitter_factor=0.5,
        retry_condition_fn=is_retryable,
    )


resolve = _step(fetching.resolve, "resolve", "find the checkpoint and its base by their configs")
fetch = _step(fetching.fetch, "fetch", "fetch, digest and verify the weights")
embed = _step(pipeline.embed, "embed", "run base and finetune over the probes, in the embedding process")
write_back = _step(pipeline.write_back, "write back", "artifact and tags in MLflow")
store_and_find = _step(pipeline.store_and_find, "store and find", "vector, findings and state in one transaction")


@flow(
    name="embed-model-version",
    description="Embeds one model version: resolve → fetch → embed → write back → store and find.",
    persist_result=False,
)
def embed_model_version(version_id: int, attempt: int) -> RunState[Any]:
    """Bring a version to `embedded`, `waiting`, `unsupported` or `failed`; the run fails where a person should look.

    A retryable error that outlasts its retries leaves the version to the reconciler, which gives it another attempt.
    """
    settings = load_settings()
    run_id = str(flow_run.get_id())
    # It imports torch, where it does not run yet, while the version is resolved and fetched.
    with open_services(settings) as services, pipeline.embedding_process(settings) as process:
        row = pipeline.begin(services, version_id, attempt=attempt, flow_run_id=run_id)
        if row is None:
            return Completed(message="nothing to do: deleted, or a later attempt exists")
        with pipeline.alive(services, row.id), fetching.workspace(services, row) as hold:
            try:
                return _embed(services, row, process, hold)
            except DeltadexError as error:
                if error.retryable:
                    raise
                return _give_up(services, row, error)
            except Exception as error:
                # Nothing we foresaw: running it again would give the same, so a person sees it at once.
                what = f"unexpected {type(error).__name__}: {error}"
                _give_up(services, row, EmbeddingError(what, hint="This is a bug in Deltadex: see the flow run's log."))
                raise


def _embed(services: Services, row: VersionRow, process: EmbeddingProcess, hold: Hold) -> RunState[Any]:
    progress = Progress(row.label)
    with progress.step("resolve"):
        resolved = resolve(services, row, hold)
        pipeline.check_license(services, row, resolved)
    with progress.step("fetch"):
        fetched = fetch(services, resolved)
    with progress.step("embed"):
        deadline_seconds = services.settings.embedding.deadline_seconds
        embedding = embed(process, fetched, deadline_seconds=deadline_seconds, on_progress=progress.within)
    name = resolved.base_name
    with progress.step("write back"):
        uri = write_back(
            services, resolved.version, embedding, base_name=name, fit=fetched.fit, seconds=dict(progress.seconds)
        )
    with progress.step("store and find"):
        found = store_and_find(
            services,
            row,
            embedding,
            base_name=name,
            artifact_uri=uri,
            weights_bytes=fetched.weights_bytes,
            imprint=fetched.imprint,
        )
    create_markdown_artifact(
        key="deltadex-embedding",
        markdown=_summary(row, embedding, name, fetched.fit.remark, found, progress),
        description=row.label,
    )
    return Completed(message=f"{row.label} embedded, {found} finding(s)")


def _give_up(services: Services, row: VersionRow, error: DeltadexError) -> RunState[Any]:
    state = pipeline.give_up(services, row, error)
    message = f"{row.label}: {error.message}"
    create_markdown_artifact(
        key="deltadex-embedding",
        markdown=f"**{row.label}** is `{state.value}`: {error.message}\n\n{error.hint}",
        description=row.label,
    )
    # What we don't embed is nothing that went wrong: only a failed version turns the run red.
    return Failed(message=message) if state is State.FAILED else Completed(message=message, name=state.capitalize())


class Progress:
    """The flow run's progress artifact, and how long each step took."""

    def __init__(self, label: str) -> None:
        self.seconds: dict[str, float] = {}
        # Typed for both of its callers; without an event loop it is the id itself.
        created = create_progress_artifact(progress=0.0, key="deltadex-progress", description=label)
        self._artifact = cast(UUID, created)
        self._next_news = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step and move the bar when it is done."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)
        update_progress_artifact(self._artifact, progress=100.0 * len(self.seconds) / _STEPS)

    def within(self, at: str, read_bytes: int) -> None:
        """Say where the embedding is, every few seconds."""
        if time.monotonic() >= self._next_news:
            self._next_news = time.monotonic() + _NEWS_SECONDS
            get_run_logger().info("embedding at %s, %.2f GB of weights read", at.partition("+")[0], read_bytes / 1e9)


def _summary(row: VersionRow, embedding: Embedding, base_name: str, remark: str, found: int, progress: Progress) -> str:
    facts = {
        "base": f"`{base_name}`",
        "strength": f"{embedding.strength:.4f} of the base's hidden state norm",
        "agreement of the probes": f"{embedding.probe_agreement:.3f}",
        "findings": found,
        "recipe": f"`{embedding.recipe.digest[:12]}`",
        "weights": f"`{embedding.weights_digest[:12]}`",
    }
    lines = [f"**{row.label}** is embedded. {remark}", "", "| fact | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "| step | seconds |", "|---|---:|"]
    lines += [f"| {step} | {seconds:.2f} |" for step, seconds in progress.seconds.items()]
    return "\n".join(lines)
