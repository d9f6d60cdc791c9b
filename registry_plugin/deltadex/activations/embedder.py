"""The process in which models run: it serves jobs on a Unix socket and keeps the last base warm.

Jobs for one base that wait at the same time go through it together. The process lives while anybody is connected, and
a stated time longer; it gets no credentials, because it opens files that strangers made.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from deltadex.activations.artifact import write_artifact
from deltadex.activations.failures import stated
from deltadex.activations.job import Answer, BaseModel, Job
from deltadex.domain import Embedding
from deltadex.errors import DeltadexError

if TYPE_CHECKING:
    from deltadex.activations.delta import Base


_FIRST_CALLER_SECONDS = 60.0
_PROGRESS_SECONDS = 0.25


@dataclass(frozen=True, eq=False)
class _Request:
    """A job, and who waits for it."""

    job: Job
    caller: socket.socket

    def answer(self, answer: Answer) -> None:
        with suppress(OSError):  # gone: nobody waits any more
            self.caller.sendall(answer.to_line())


class Embedder:
    """Takes jobs from callers in threads, and does them in the thread that calls `serve`."""

    def __init__(self, listener: socket.socket, *, keep_warm_seconds: float) -> None:
        self._listener = listener
        self._keep_warm_seconds = keep_warm_seconds
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._callers = 0
        self._leave_at = time.monotonic() + _FIRST_CALLER_SECONDS
        self._lock = threading.Lock()
        self._warm: tuple[BaseModel, Base] | None = None

    def serve(self) -> None:
        """Do jobs until nobody has been there for the stated time."""
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._leave_when_idle, daemon=True).start()
        _import_libraries()
        while True:
            for together in _by_base(self._waiting()):
                self._do(together)

    def _accept(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            threading.Thread(target=self._receive, args=(caller,), daemon=True).start()

    def _receive(self, caller: socket.socket) -> None:
        with self._lock:
            self._callers += 1
        with suppress(OSError), caller.makefile("rb") as lines:
            for line in lines:
                self._requests.put(_Request(Job.from_line(line), caller))
        with self._lock:
            self._callers -= 1
            self._leave_at = time.monotonic() + self._keep_warm_seconds

    def _leave_when_idle(self) -> None:
        """End the process, whatever it computes: nobody waits for it."""
        while True:
            with self._lock:
                if not self._callers and time.monotonic() >= self._leave_at:
                    os._exit(0)
            time.sleep(0.1)

    def _waiting(self) -> list[_Request]:
        requests = [self._requests.get()]
        with suppress(Empty):
            while True:
                requests.append(self._requests.get_nowait())
        return requests

    def _do(self, requests: Sequence[_Request]) -> None:
        asked = [(request, number) for request in requests for number in range(len(request.job.finetunes))]
        unanswered = set(range(len(asked)))
        for request in requests:
            request.answer(Answer())  # from now on a crash may be this job's fault
        try:
            base = self._base(requests[0].job.base)
            finetunes = [request.job.finetunes[number] for request, number in asked]
            for position, outcome in base.embed(finetunes, on_progress=_Progress(requests)):
                request, number = asked[position]
                request.answer(_keep(request.job, number, outcome))
                unanswered.remove(position)
        except Exception as error:  # noqa: BLE001 - the next job may be a good one
            reason = stated(error, what="The base could not be run")
            for position in unanswered:
                request, number = asked[position]
                request.answer(Answer(number, reason))

    def _base(self, model: BaseModel) -> Base:
        """Return the base, as it was left by the last job where that was about the same."""
        from deltadex.activations.delta import Base

        if self._warm is None or self._warm[0] != model:
            self._warm = None  # before the next one takes memory
            self._warm = model, Base(model)
        return self._warm[1]


class _Progress:
    """Tells callers how much has been read, a few times a second."""

    def __init__(self, requests: Sequence[_Request]) -> None:
        self._requests = requests
        self._read_bytes = 0
        self._told_at = time.monotonic()

    def __call__(self, at: str, read_bytes: int) -> None:
        self._read_bytes += read_bytes
        if time.monotonic() - self._told_at > _PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            for request in self._requests:
                request.answer(Answer(read_bytes=self._read_bytes, at=at))


def _by_base(requests: Sequence[_Request]) -> list[list[_Request]]:
    groups: dict[BaseModel, list[_Request]] = {}
    for request in requests:
        groups.setdefault(request.job.base, []).append(request)
    return list(groups.values())


def _keep(job: Job, number: int, outcome: Embedding | DeltadexError) -> Answer:
    if isinstance(outcome, DeltadexError):
        return Answer(number, outcome)
    folder = job.results / str(number)
    folder.mkdir()
    write_artifact(outcome, folder, manifest={})
    return Answer(number)


def _import_libraries() -> None:
    """Import what every job needs before the first one arrives; without the collector it takes a fifth less."""
    gc.disable()
    import transformers.models.llama.modeling_llama
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from deltadex.activations import delta

    get_checkpoint_conversion_mapping("legacy")  # compiles hundreds of patterns, once
    del transformers, delta
    gc.freeze()
    gc.enable()


def main(descriptor: str, keep_warm_seconds: str, memory_bytes: str) -> None:
    """Serve the jobs of a listening socket that was inherited.

    Parameters
    ----------
    memory_bytes
        Limit on memory that no file backs; 0 for none. Allocations beyond it fail instead of calling the OOM killer.
    """
    if int(memory_bytes):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    os.dup2(2, 1)  # what libraries print is for the log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    listener = socket.socket(fileno=int(descriptor))
    Embedder(listener, keep_warm_seconds=float(keep_warm_seconds)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
