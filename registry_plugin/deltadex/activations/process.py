"""The child process in which models run, seen from the parent: no torch here, and a deadline that holds.

A timeout inside a process is only a wish while a C library computes; a killed process group is certain. The child
also gets no credentials: it opens files that strangers made.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType
from typing import Self

from deltadex.activations.artifact import read_artifact
from deltadex.activations.job import Job, raise_answer
from deltadex.checkpoints.layout import LocalCheckpoint
from deltadex.domain import Embedding
from deltadex.errors import DeadlineExceeded, EmbeddingError

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
_PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
#: By default glibc grows its heap for the intermediate results of a layer and never gives it back: 1.6 GB instead of
#: 0.4 GB for a model of 1.2 billion parameters.
_FRUGAL_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
_LAST_BREATH_SECONDS = 5.0


class EmbeddingProcess:
    """A child process that embeds one finetune after another; a context manager.

    It starts at once, so that it imports torch while the parent still resolves and fetches. It ends with the parent,
    however that ends. After a crash or a missed deadline the next `embed` starts a new one.

    Parameters
    ----------
    threads
        Threads that torch may use; None leaves it to torch and `OMP_NUM_THREADS`.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        allowed = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
        self._environment = _PATIENT_THREADS | _FRUGAL_HEAP | allowed | _OFFLINE
        if threads is not None:
            self._environment["OMP_NUM_THREADS"] = str(threads)

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="deltadex-embed-")
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Process id of the child, which leads its own process group."""
        return self._child.pid

    def embed(
        self,
        finetune: LocalCheckpoint,
        base: LocalCheckpoint,
        *,
        deadline_seconds: float,
        base_digest: str,
        weights_digest: str,
    ) -> Embedding:
        """Return the embedding that `deltadex.activations.delta.Base` makes, made in the child.

        Raises
        ------
        DeadlineExceeded
            It took longer than `deadline_seconds`; the child was killed with everything it started.
        EmbeddingError
            The child died; retryable where a signal killed it, as when memory runs out.
        DeltadexError
            Whatever `embed` raised, with its message and hint.
        """
        if self._child.poll() is not None:
            self._kill()  # closes what is left of it
            self._start()
        started = time.monotonic()
        result = Path(mkdtemp(dir=self._folder.name))
        self._send(Job(finetune, base, base_digest, weights_digest, result).to_line())
        raise_answer(self._receive(deadline_seconds))
        logger.info("embedded folder=%s seconds=%.1f", finetune.folder, time.monotonic() - started)
        return read_artifact(result)

    def _start(self) -> None:
        self._errors = Path(self._folder.name) / "stderr.txt"
        with self._errors.open("wb") as errors:
            self._child = subprocess.Popen(
                # -P: a file in the working directory must not shadow a library
                [sys.executable, "-P", "-m", "deltadex.activations.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                start_new_session=True,
            )

    def _send(self, line: str) -> None:
        assert self._child.stdin is not None  # noqa: S101
        try:
            self._child.stdin.write(line.encode())
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self, deadline_seconds: float) -> str:
        assert self._child.stdout is not None  # noqa: S101
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            if not selector.select(deadline_seconds):
                self._kill()
                raise DeadlineExceeded(
                    f"The embedding took longer than {deadline_seconds:g} s and was killed",
                    hint="Raise DELTADEX_EMBEDDING__DEADLINE_SECONDS, or give the worker more processors.",
                )
        line = self._child.stdout.readline().decode()
        if not line.endswith("\n"):
            raise self._death()
        return line

    def _death(self) -> EmbeddingError:
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_LAST_BREATH_SECONDS)  # it has closed its pipes: its own exit code tells why
        self._kill()
        code = self._child.returncode
        written = self._errors.read_text(errors="replace").strip()
        logger.warning("embedding process died returncode=%d stderr=%s", code, written[-2000:])
        if code < 0:
            hint = "Memory may have run out." if code == -signal.SIGKILL else "See the log."
            name = signal.Signals(-code).name
            return EmbeddingError(f"The embedding process was killed by {name}", hint=hint, retryable=True)
        last = written.rpartition("\n")[2][-500:]
        return EmbeddingError(f"The embedding process ended with exit code {code}: {last}", hint="See the log.")

    def _kill(self) -> None:
        """End the child and everything it started."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
