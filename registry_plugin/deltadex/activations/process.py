"""The embedder, seen from whoever wants an embedding: no torch here, and a deadline that holds.

A timeout inside a process is only a wish while a C library computes; a killed process group is certain.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, gettempdir, mkdtemp
from types import TracebackType
from typing import Self

from deltadex.activations.artifact import read_artifact
from deltadex.activations.job import Answer, BaseModel, Finetune, Job, OnProgress, ignore_progress
from deltadex.domain import Embedding
from deltadex.errors import DeltadexError, EmbeddingError, Resource, Shortage

logger = logging.getLogger(__name__)

_WITHHELD = ("DELTADEX_", "MLFLOW_", "PREFECT_", "AWS_", "AZURE_", "GOOGLE_", "HF_", "HUGGING")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "1",
}
#: Torch's threads spin while they wait for each other. On busy processors that made an embedding of 0.04 s last 2.3 s.
PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
#: By default glibc grows its heap for the intermediate results of a layer and never gives it back: 1.6 GB instead of
#: 0.4 GB for a model of 1.2 billion parameters. With less than this it spends a quarter of the time on page faults.
FRUGAL_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
_LAST_BREATH_SECONDS = 5.0

Outcome = tuple[int, Embedding | DeltadexError]


class EmbeddingProcess:
    """A connection to a process that embeds; a context manager.

    The process starts at once, so that it imports torch while the caller still resolves and fetches. It ends with its
    last caller, however that ends. After a crash or a missed deadline the next `embed` starts a new one.

    Parameters
    ----------
    shared_by
        Name of the process that all callers of this name and user share: their jobs wait for each other, and those
        for one base go through it together. None starts a process of one's own.
    keep_warm_seconds
        How long the process waits for the next caller after its last one has left.
    memory_bytes
        Limit on its memory that no file backs; None for none.
    threads
        Threads that torch may use; None leaves it to torch and `OMP_NUM_THREADS`.
    """

    def __init__(
        self,
        *,
        shared_by: str | None = None,
        keep_warm_seconds: float = 0,
        memory_bytes: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._shared_by = shared_by
        self._arguments = (str(keep_warm_seconds), str(memory_bytes or 0))
        self._environment = isolated_environment()
        if threads is not None:
            self._environment["OMP_NUM_THREADS"] = str(threads)

    def __enter__(self) -> Self:
        self._results = TemporaryDirectory(prefix="deltadex-embed-")
        own = Path(self._results.name)
        self._place = own if self._shared_by is None else _shared_place(self._shared_by)
        self._connection = socket.socket(socket.AF_UNIX)
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
        if self._shared_by is None:
            kill_group(self.pid)
        self._results.cleanup()

    def embed(
        self,
        base: BaseModel,
        finetunes: Sequence[Finetune],
        *,
        deadline_seconds: float,
        on_progress: OnProgress = ignore_progress,
    ) -> Iterator[Outcome]:
        """Yield each finetune's number with its embedding, or with the error that prevented it, in any order.

        Parameters
        ----------
        deadline_seconds
            For all of them together.
        on_progress
            Called now and then with the part that computes and the bytes of weights that were read so far.

        Raises
        ------
        Shortage
            The deadline was not enough; the process was killed, with everything it started.
        EmbeddingError
            The process died; retryable, because another caller's job may have been the reason.
        """
        if not finetunes:
            return
        results = Path(mkdtemp(dir=self._results.name))
        missing = set(range(len(finetunes)))
        for answer in self._answers(Job(base, tuple(finetunes), results).to_line(), deadline_seconds):
            if answer.number is None:
                on_progress(answer.at, answer.read_bytes)
                continue
            missing.remove(answer.number)
            yield answer.number, answer.error or read_artifact(results / str(answer.number))
            if not missing:
                break
        rmtree(results)

    def _answers(self, job: bytes, deadline_seconds: float) -> Iterator[Answer]:
        """Send a job and yield what comes back; an embedder that was gone or just leaving is replaced once."""
        give_up_at = time.monotonic() + deadline_seconds
        heard, started = self._ask(job), False
        while True:
            piece = self._receive(give_up_at, deadline_seconds)
            if not piece and started:
                raise self._death()
            if not piece:
                self._connect()
                heard, started = self._ask(job), True  # whatever comes now comes from the new one
                continue
            started = True
            *lines, heard = (heard + piece).split(b"\n")
            yield from map(Answer.from_line, lines)

    def _ask(self, job: bytes) -> bytes:
        try:
            self._connection.sendall(job)
        except OSError:
            self._connect()
            self._connection.sendall(job)
        return b""

    def _receive(self, give_up_at: float, deadline_seconds: float) -> bytes:
        """Return what the embedder says next; nothing when it is gone."""
        self._connection.settimeout(max(0.001, give_up_at - time.monotonic()))
        try:
            return self._connection.recv(1 << 16)
        except TimeoutError:
            kill_group(self.pid)
            raise Shortage(
                f"The embedding took longer than {deadline_seconds:g} s and was killed",
                hint="Raise DELTADEX_EMBEDDING__DEADLINE_SECONDS, or give the worker more processors.",
                resource=Resource.TIME,
                more_than=deadline_seconds,
            ) from None
        except OSError:
            return b""
        finally:
            self._connection.settimeout(None)

    def _connect(self) -> None:
        """Join the embedder at our place, or start one there."""
        address = str(self._place / "socket")
        with (self._place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._connection.close()
            self._connection = socket.socket(socket.AF_UNIX)
            try:
                self._connection.connect(address)
            except OSError:  # nobody has listened there yet, or nobody does any more
                self._start(address)
                self._connection.connect(address)
            self.pid = int((self._place / "pid").read_text())

    def _start(self, address: str) -> None:
        Path(address).unlink(missing_ok=True)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(address)
            listener.listen()
            listener.set_inheritable(True)
            # -P: a file in the working directory must not shadow a library
            module = [sys.executable, "-P", "-m", "deltadex.activations.embedder"]
            log = str(self._place / "embedder.log")
            pid = os.posix_spawn(
                sys.executable,
                [*module, str(listener.fileno()), *self._arguments],
                self._environment,
                setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )
        (self._place / "pid").write_text(str(pid))

    def _death(self) -> EmbeddingError:
        written = (self._place / "embedder.log").read_text(errors="replace").strip()
        logger.info("embedding process died pid=%d log=%s", self.pid, written[-2000:])
        kill_group(self.pid)
        last = written.rpartition("\n")[2][-500:]
        return EmbeddingError(
            f"The embedding process died{f': {last}' if last else ''}",
            hint="Memory may have run out: give the worker more, or set DELTADEX_EMBEDDING__MEMORY_BYTES.",
            retryable=True,
        )


def isolated_environment() -> dict[str, str]:
    """Return the environment of a process that opens strangers' files: no credentials, and nothing is downloaded."""
    allowed = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    return PATIENT_THREADS | FRUGAL_HEAP | allowed | _OFFLINE


def end_shared(name: str) -> None:
    """End the process that callers share under a name, if it still waits for the next one."""
    place = _shared_place(name)
    with suppress(OSError), closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect(str(place / "socket"))
        kill_group(int((place / "pid").read_text()))


def _shared_place(name: str) -> Path:
    """Return a private folder of this user for all callers of one name; short, as the addresses of sockets must be."""
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    home = Path(gettempdir()) / f"deltadex-{os.getuid()}"
    place = home / key
    for folder in (home, place):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
            raise EmbeddingError(f"{folder} belongs to somebody else", hint="Remove it, or set TMPDIR.")
    return place


def kill_group(pid: int) -> None:
    """End a process that leads a group, and everything it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # another caller's child
        os.waitpid(pid, 0)
