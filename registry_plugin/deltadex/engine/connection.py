"""Connection to the process that opens and embeds checkpoints, with hard deadlines. Imports no torch.

A timeout inside a process cannot interrupt a C library; killing the process can.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from filelock import FileLock

from deltadex.engine.isolation import isolated_environment, kill_group
from deltadex.engine.messages import Answer, Request, parse_answer, to_line
from deltadex.errors import DeltadexError, EmbeddingError, Resource, Shortage
from deltadex.fork_server import socket_address

logger = logging.getLogger(__name__)

#: Limit for the import of torch on a machine with much other work.
_START_SECONDS = 300.0
#: Limit on one answer: an imprint has kilobytes, the names of a large model's tensors a few megabytes.
_MAX_LINE_BYTES = 64 << 20


class Connection:
    """A connection to a process that works on requests; a context manager.

    The process starts at once, so that it imports torch while the caller still reads the registry. Each connection gets
    a child process of its own, which is killed when the connection ends, even if the caller crashed. After a crash or a
    missed deadline the next request starts a new one.

    Parameters
    ----------
    shared_by
        Folder of a process shared by all callers that name it, so that only the first one waits for imports. None
        starts a private process.
    keep_warm_seconds
        Time that a process without callers waits for the next one.
    memory_bytes
        Limit on each child's anonymous memory (not backed by a file); None for no limit.
    threads
        Threads that torch may use; None for one per processor.
    """

    def __init__(
        self,
        *,
        shared_by: Path | None = None,
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
        #: For results that are files; it goes with the connection.
        self.results = Path(self._results.name)
        self._folder = self._shared_by or self.results
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = socket.socket(socket.AF_UNIX)
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        if self._shared_by is None:
            kill_group(self.pid)
        self._results.cleanup()

    def counted(
        self, request: Request, seconds: float, late: DeltadexError, total: int, on_share: Callable[[float], None]
    ) -> object:
        """Send a request, report the share of `total` that its answers count, and return its result."""
        for answer in self.answers(request, seconds, late):
            if answer.number is not None:
                on_share(answer.number / total)
        return answer.result

    def answers(self, request: Request, seconds: float, late: DeltadexError) -> Iterator[Answer]:
        """Send a request and yield its answers. The clock starts with the first one, and stops while the caller works.

        A caller that stops listening before the last answer gets a new child for its next request.
        """
        is_done = False
        try:
            self._begin(to_line(request))
            while not is_done:
                before = time.monotonic()
                line = self._next_line(seconds, late)
                seconds -= time.monotonic() - before
                if not line:
                    raise self._crash_error()
                answer = parse_answer(line)
                is_done = answer.done
                if answer.done and answer.exception:
                    raise answer.exception
                yield answer
        finally:
            if not is_done:
                self._leave()

    def send(self, reply: bytes) -> None:
        """Send what the child has asked for."""
        self._connection.sendall(reply)

    def _begin(self, request: bytes) -> None:
        """Send a request and wait until a child has taken it; the process or the idle child may have just ended."""
        late = EmbeddingError(
            f"The embedding process did not start within {_START_SECONDS:g} s",
            hint="Is the machine overloaded? See embedder.log in the data folder.",
            retryable=True,
        )
        with suppress(OSError):
            self._connection.sendall(request)
            if self._next_line(_START_SECONDS, late):
                return
        self._connect()
        self._connection.sendall(request)
        if not self._next_line(_START_SECONDS, late):
            raise self._crash_error()

    def _next_line(self, seconds: float, late: DeltadexError) -> bytes:
        """Return the child's next line; empty if it has ended."""
        try:
            self._connection.settimeout(max(0.001, seconds))
            line = self._lines.readline(_MAX_LINE_BYTES)
            self._connection.settimeout(None)
        except TimeoutError:
            raise late from None
        except ConnectionError:
            return b""
        return line

    def _leave(self) -> None:
        """End the connection; the process then kills the child."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._connection.close()

    def _connect(self) -> None:
        """Connect to the folder's embedder; start one if none is running."""
        with FileLock(self._folder / "lock"), socket_address(self._folder) as address:
            self._connection.close()
            self._connection = socket.socket(socket.AF_UNIX)
            try:
                self._connection.connect(address)
            except OSError:  # no embedder was started here yet, or it has exited
                self._start(address)
                self._connection.connect(address)
            self.pid = int((self._folder / "pid").read_text())
        self._lines = self._connection.makefile("rb")

    def _start(self, address: str) -> None:
        (self._folder / "socket").unlink(missing_ok=True)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(address)
            listener.listen()
            listener.set_inheritable(True)
            # -P: a file in the working directory must not shadow a library
            module = [sys.executable, "-P", "-m", "deltadex.engine.server"]
            log_file = str(self._folder / "embedder.log")
            pid = os.posix_spawn(
                sys.executable,
                [*module, str(listener.fileno()), *self._arguments],
                self._environment,
                setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )
        (self._folder / "pid").write_text(str(pid))

    def _crash_error(self) -> EmbeddingError:
        log = (self._folder / "embedder.log").read_text(errors="replace").strip()
        logger.info("embedding process died log=%s", log[-2000:])
        last_line = log.rpartition("\n")[2][-500:]
        return EmbeddingError(
            f"The embedding process died{f': {last_line}' if last_line else ''}",
            hint="Memory may have run out: give the worker more, or set DELTADEX_EMBEDDING__MEMORY_BYTES.",
            retryable=True,
        )


def too_late(what: str, seconds: float) -> Shortage:
    """Return the error of work that missed its deadline."""
    return Shortage(
        f"{what} took longer than {seconds:g} s and was stopped",
        hint="Raise DELTADEX_EMBEDDING__DEADLINE_SECONDS, or give the worker more processors.",
        resource=Resource.TIME,
        more_than=seconds,
    )


def end_shared(folder: Path) -> None:
    """End the shared process of a folder, if it is still running."""
    with suppress(OSError), closing(socket.socket(socket.AF_UNIX)) as connection, socket_address(folder) as address:
        connection.connect(address)
        kill_group(int((folder / "pid").read_text()))
