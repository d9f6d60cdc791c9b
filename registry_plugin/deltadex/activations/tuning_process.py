"""A training on a few examples, seen from whoever wants one: no torch here, and a deadline that holds."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from deltadex.activations.job import Step, Tuning
from deltadex.activations.process import isolated_environment, kill_group
from deltadex.errors import EmbeddingError, Resource, Shortage

logger = logging.getLogger(__name__)


def tune(
    tuning: Tuning,
    folder: Path,
    *,
    deadline_seconds: float,
    memory_bytes: int | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Train an adapter in a child process and save it into a folder.

    Parameters
    ----------
    memory_bytes
        Limit on the child's memory that no file backs; None for none.
    on_step
        Called with the number of steps done, after each.

    Raises
    ------
    Shortage
        The deadline was not enough; the child was killed.
    DeltadexError
        What ended the training.
    """
    # -P: a file in the working directory must not shadow a library
    argv = [sys.executable, "-P", "-m", "deltadex.activations.tuning", str(folder), str(memory_bytes or 0)]
    with TemporaryFile() as log:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=isolated_environment(),
            start_new_session=True,
        )
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            kill_group(child.pid)

        deadline = threading.Timer(deadline_seconds, end)
        deadline.start()
        try:
            _follow(child, tuning, on_step)
        finally:
            deadline.cancel()
            kill_group(child.pid)
            code = child.wait()
        if is_late.is_set():
            raise Shortage(
                f"Training on the examples took longer than {deadline_seconds:g} s and was stopped",
                hint="Give fewer or shorter examples, or raise DELTADEX_EMBEDDING__DEADLINE_SECONDS.",
                resource=Resource.TIME,
                more_than=deadline_seconds,
            )
        if code:
            log.seek(0)
            raise _death(log.read().decode(errors="replace"), code)


def _follow(child: subprocess.Popen[bytes], tuning: Tuning, on_step: Callable[[int], None]) -> None:
    """Ask, and listen until the child has ended."""
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stdout is not None  # noqa: S101
    with child.stdin, child.stdout, suppress(BrokenPipeError):
        child.stdin.write(tuning.to_line())
        child.stdin.flush()
        for step in map(Step.from_line, child.stdout):
            if step.error:
                raise step.error
            on_step(step.done)


def _death(log: str, code: int) -> EmbeddingError:
    logger.info("training died code=%d log=%s", code, log[-2000:])
    last = log.strip().rpartition("\n")[2][-500:]
    return EmbeddingError(
        f"The training process died with {code}{f': {last}' if last else ''}",
        hint="Memory may have run out: give fewer or shorter examples, or set DELTADEX_EMBEDDING__MEMORY_BYTES.",
        retryable=True,
    )
