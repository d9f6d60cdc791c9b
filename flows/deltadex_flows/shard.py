"""The flow `embed-shard`: many versions of one base, from their files to their embeddings and findings."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed

from deltadex.app import open_app
from deltadex.escaping import markdown, printable
from deltadex.ingest import shard
from deltadex.types import State, VersionRow
from deltadex_flows.run_settings import run_settings

_UPDATE_SECONDS = 2.0
#: Fresh versions and everything else on the machine go first.
_NICE = 10


@flow(
    name="embed-shard",
    description="Embeds waiting model versions of one base together: each is resolved and fetched ahead of the engine.",
    persist_result=False,
)
def embed_shard(shard_id: int) -> RunState[Any]:
    """Bring each version of a shard to its end; those that are not reached wait for another shard."""
    os.nice(_NICE)
    settings = run_settings()
    progress = Progress(settings.version_link)
    with open_app(settings) as app:
        states = shard.embed_shard(
            app,
            shard_id,
            flow_run_id=str(flow_run.get_id()),
            on_begin=progress.begin,
            on_ended=progress.end,
            on_part=progress.part,
        )
    if states is None:
        return Completed(message="nothing to do: the shard had ended")
    progress.publish()
    return Completed(message=", ".join(f"{count} {state}" for state, count in states.most_common()) or "no versions")


class Progress:
    """Progress artifact of the run, a line in its log for each version, and at its end a list of the versions."""

    def __init__(self, link_of: Callable[[str, int], str | None]) -> None:
        self._link_of = link_of
        self._lines = list[str]()
        # The return type also covers the async variant; without an event loop it is the id.
        created = create_progress_artifact(progress=0.0, key="deltadex-progress", description="versions of the shard")
        self._artifact = cast(UUID, created)
        self._logger = get_run_logger()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._total = self._ended = 0
        self._next_update = 0.0

    def begin(self, total: int) -> None:
        """Take the number of versions."""
        self._total = total
        self._logger.info("%d versions", total)

    def end(self, row: VersionRow, state: State, reason: str) -> None:
        """Log that a version came to its end, with the rate and the time left; called by any thread."""
        with self._lock:
            self._ended += 1
            self._lines.append(self._line(row, state))
            seconds = max(time.monotonic() - self._started, 0.001)
            rate, left = self._ended / seconds, self._total - self._ended
            text = f"version={row.label} state={state}{f': {reason}' if reason else ''}"
            self._logger.info(
                "%s (%d of %d, %.0f a minute, %.0f s left)",
                printable(text),
                self._ended,
                self._total,
                60 * rate,
                left / rate,
            )
            is_due = time.monotonic() >= self._next_update or not left
            if is_due:
                self._next_update = time.monotonic() + _UPDATE_SECONDS
        if is_due:
            with self._reporting():
                update_progress_artifact(self._artifact, progress=100.0 * (self._total - left) / self._total)

    def publish(self) -> None:
        """Put the versions with their states on the page of the flow run, as links to the dashboard if it is known."""
        with self._reporting():
            create_markdown_artifact(
                key="deltadex-shard", markdown="\n".join(self._lines), description="versions of the shard"
            )

    def _line(self, row: VersionRow, state: State) -> str:
        ref, label = row.registered.ref, markdown(row.label)
        link = self._link_of(ref.name, ref.version)
        return f"- {f'[{label}](<{link}>)' if link else label}: {state}"

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # Prefect may be away: the versions are embedded anyway
            self._logger.warning("not reported to Prefect", exc_info=True)

    def part(self, part: str, read_bytes: int) -> None:
        """Take where the engine is; versions of a large base take minutes."""
        if time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + _UPDATE_SECONDS
            self._logger.info("engine at %s, %.2f GB of weights read", part.partition("+")[0], read_bytes / 1e9)
