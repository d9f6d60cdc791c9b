"""The embedding process: imports torch once, and forks a child for each caller."""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
import sys
import time
from contextlib import suppress

from deltadex.engine.isolation import isolate
from deltadex.fork_server import ForkServer

_FIRST_CALLER_SECONDS = 60.0


def _serve(caller: socket.socket) -> None:
    from deltadex.engine.child import Child

    isolate()
    with suppress(ConnectionError):  # the caller left
        Child(caller).serve()


def _import_libraries() -> None:
    """Import the libraries before the first caller; disabling the garbage collector saves a fifth of the time."""
    gc.disable()
    import transformers.models.llama.modeling_llama
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from deltadex.engine import child

    get_checkpoint_conversion_mapping("legacy")  # compiles hundreds of patterns, once
    del transformers, child
    gc.freeze()
    gc.enable()


def main(descriptor: str, keep_warm_seconds: str, memory_bytes: str) -> None:
    """Serve callers on an inherited listening socket.

    Parameters
    ----------
    memory_bytes
        Limit on anonymous memory of each child; 0 for no limit. Allocations beyond it fail instead of triggering the
        OOM killer.
    """
    if int(memory_bytes):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    os.dup2(2, 1)  # library output goes to the log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _import_libraries()
    started, warm = time.monotonic(), float(keep_warm_seconds)

    def is_wanted(idle_seconds: float) -> bool:
        return idle_seconds < warm or time.monotonic() - started < _FIRST_CALLER_SECONDS

    ForkServer(socket.socket(fileno=int(descriptor)), _serve).run(is_wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
