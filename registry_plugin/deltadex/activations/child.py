"""The child that `EmbeddingProcess` starts: jobs come on stdin, results go into folders, answers on stdout."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from queue import SimpleQueue
from threading import Thread

from deltadex.activations.artifact import write_artifact
from deltadex.activations.job import Job, answer_line
from deltadex.errors import DeltadexError


def main() -> None:
    """Serve jobs, one after another, until stdin is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    jobs: SimpleQueue[str] = SimpleQueue()
    Thread(target=_receive, args=(sys.stdin, jobs), daemon=True).start()
    _import_libraries()
    while True:
        answers.write(answer_line(_serve(Job.from_line(jobs.get()))))
        answers.flush()


def _receive(lines: Iterable[str], jobs: SimpleQueue[str]) -> None:
    """Queue the jobs; the end of stdin means that the parent is gone, even after a `kill -9`, so nobody waits.

    PR_SET_PDEATHSIG would do so too, but on Linux only, and already when the *thread* that started us ends.
    """
    for line in lines:
        jobs.put(line)
    os._exit(0)


def _import_libraries() -> None:
    """Import what every job needs before the first one arrives; without the collector it takes a fifth less."""
    gc.disable()
    import transformers.models.llama.modeling_llama

    from deltadex.activations import delta

    del transformers, delta
    gc.freeze()
    gc.enable()


def _serve(job: Job) -> DeltadexError | None:
    """Do one job. Any other error than ours ends the process, and the parent reports it with its last line."""
    from deltadex.activations.delta import Base, Finetune

    try:
        base = Base(job.base, digest=job.base_digest)
        for _, outcome in base.embed([Finetune(job.finetune, job.weights_digest)]):
            if isinstance(outcome, DeltadexError):
                return outcome
            write_artifact(outcome, job.result, manifest={})
    except DeltadexError as error:
        return error
    return None


if __name__ == "__main__":
    main()
