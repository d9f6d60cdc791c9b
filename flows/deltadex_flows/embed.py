"""The flow `embed-model-version`: from a version's files to its embedding and findings."""

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

from deltadex.app import App, open_app
from deltadex.downloads.cache import Hold
from deltadex.embeddings import summary
from deltadex.engine import shared
from deltadex.engine.client import EmbeddingProcess
from deltadex.errors import DeltadexError, Shortage
from deltadex.escaping import markdown, markdown_hint
from deltadex.ingest import embed as embed_steps
from deltadex.ingest import record
from deltadex.ingest import resolve as resolve_steps
from deltadex.ingest.record import Embedded
from deltadex.registry.training_metadata import provenance_of
from deltadex.types import Embedding, State, VersionRow
from deltadex_flows.run_settings import run_settings

P = ParamSpec("P")
R = TypeVar("R")

_STEPS = 5
_LOG_SECONDS = 5.0


def is_retryable(_task: Task[..., Any], _run: TaskRun, state: RunState[Any]) -> bool:
    """Return True if a task failed with a retryable error."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, DeltadexError) and error.retryable


def _step(function: Callable[P, R], name: str, description: str) -> Task[P, R]:
    """Return a task. Values pass between tasks in memory, so nothing is cached or pickled."""
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


resolve = _step(resolve_steps.resolve, "resolve", "find the checkpoint and its base by their configs")
fetch = _step(resolve_steps.fetch, "fetch", "fetch, digest and verify the weights")
embed = _step(embed_steps.embed, "embed", "run base and finetune over the probes, in the embedding process")
write_back = _step(embed_steps.write_back, "write back", "artifact and tags in MLflow")
store_and_find = _step(record.store_and_find, "store and find", "vector, findings and state in one transaction")


@flow(
    name="embed-model-version",
    description="Embeds one model version: resolve → fetch → embed → write back → store and find.",
    persist_result=False,
)
def embed_model_version(version_id: int, attempt: int) -> RunState[Any]:
    """Bring a version to `embedded`, `waiting`, `unsupported` or `failed`; the run fails if a person should look.

    After the last retry of a retryable error, the watcher starts another attempt for the version.
    """
    settings = run_settings()
    run_id = str(flow_run.get_id())
    # The embedding process starts here, so that it imports torch while the version is resolved and fetched.
    with open_app(settings) as app, shared.embedding_process(settings) as process:
        row = embed_steps.begin(app, version_id, attempt=attempt, flow_run_id=run_id)
        if row is None:
            return Completed(message="nothing to do: deleted, or a later attempt exists")
        with embed_steps.heartbeats_of(app, row), resolve_steps.workspace(app, row) as hold:
            try:
                return _embed(app, row, process, hold)
            except DeltadexError as error:
                if error.retryable:
                    embed_steps.note(app, row, error)
                    raise
                return _give_up(app, row, error)
            except Exception as error:
                # A retry would probably fail in the same way, so a person sees the error at once.
                reason = embed_steps.stated(error, row)
                ended = _give_up(app, row, reason)
                if isinstance(reason, Shortage):
                    return ended
                raise  # so that the flow run's log has the traceback


def _embed(app: App, row: VersionRow, process: EmbeddingProcess, hold: Hold) -> RunState[Any]:
    progress = Progress(row.label)
    with progress.step("resolve"):
        resolved = resolve(app, process, row, hold)
        embed_steps.note_resolved(app, row, resolved)
    with progress.step("fetch"):
        fetched = fetch(app, process, resolved, hold)
    with progress.step("embed"):
        deadline_seconds = app.settings.embedding.deadline_seconds
        embedding = embed(process, fetched, deadline_seconds=deadline_seconds, on_progress=progress.log)
    name = resolved.base_name
    with progress.step("write back"):
        uri = write_back(
            app,
            resolved.version,
            embedding,
            base_name=name,
            fit=fetched.fit,
            seconds=dict(progress.seconds),
            run=resolved.run,
        )
    with progress.step("store and find"):
        known = provenance_of(resolved.run, weights_bytes=fetched.weights_bytes)
        embedded = Embedded(row, embedding, name, uri, known, fetched.weights, progress.seconds)
        [findings] = store_and_find(app, [embedded])
    _publish(app, row, _summary(row, embedding, name, fetched.fit.remark, findings, progress))
    return Completed(message=f"{row.label} embedded, {findings} finding(s)")


def _give_up(app: App, row: VersionRow, error: DeltadexError) -> RunState[Any]:
    state = embed_steps.give_up(app, row, error)
    message = f"{row.label}: {error.message}"
    reason = f"**{markdown(row.label)}** is `{state.value}`: {markdown(error.message)}"
    _publish(app, row, f"{reason}\n\n{markdown_hint(error.hint)}")
    # Waiting and unsupported versions are not errors: the run fails only for a failed version.
    return Failed(message=message) if state is State.FAILED else Completed(message=message, name=state.capitalize())


class Progress:
    """Progress artifact of the flow run, and the duration of each step in seconds."""

    def __init__(self, label: str) -> None:
        self.seconds: dict[str, float] = {}
        # The return type also covers the async variant; without an event loop it is the id.
        created = create_progress_artifact(progress=0.0, key="deltadex-progress", description=markdown(label))
        self._artifact = cast(UUID, created)
        self._next_log = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, and update the progress bar when it is done."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)
        update_progress_artifact(self._artifact, progress=100.0 * len(self.seconds) / _STEPS)

    def log(self, part: str, read_bytes: int) -> None:
        """Log the current part of the model every few seconds."""
        if time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + _LOG_SECONDS
            get_run_logger().info("embedding at %s, %.2f GB of weights read", part.partition("+")[0], read_bytes / 1e9)


def _summary(
    row: VersionRow, embedding: Embedding, base_name: str, remark: str, findings: int, progress: Progress
) -> str:
    facts = {**summary.facts(embedding, base_name=base_name), "findings": str(findings)}
    lines = [f"**{markdown(row.label)}** is embedded. {markdown(remark)}", "", summary.table(facts)]
    lines += ["", "| step | seconds |", "|---|---:|"]
    lines += [f"| {step} | {seconds:.2f} |" for step, seconds in progress.seconds.items()]
    return "\n".join(lines)


def _publish(app: App, row: VersionRow, text: str) -> None:
    """Put text on the page of the flow run, above a link to the version's page in the dashboard."""
    ref = row.registered.ref
    link = app.settings.version_link(ref.name, ref.version)
    create_markdown_artifact(
        key="deltadex-embedding",
        markdown=f"{text}\n\n{summary.dashboard_link(link)}" if link else text,
        description=markdown(row.label),
    )
