"""Conversion of library errors into Deltadex errors."""

from __future__ import annotations

import errno
import logging
import resource

from deltadex.errors import DeltadexError, EmbeddingError, Resource, Shortage
from deltadex.machine import gpu_bytes

#: Class of torch's error for the memory of a GPU.
_OUT_OF_GPU_MEMORY = "OutOfMemoryError"
#: Out-of-memory messages of torch's CPU allocator (c10) and the C++ library.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "could not create a memory")

logger = logging.getLogger(__name__)


def as_deltadex_error(error: Exception, *, context: str) -> DeltadexError:
    """Convert an exception that ended a computation into a DeltadexError; unexpected ones are logged.

    Parameters
    ----------
    context
        The failed step, for messages: `/models/a could not be run`.
    """
    if isinstance(error, DeltadexError):
        return error
    if type(error).__name__ == _OUT_OF_GPU_MEMORY:
        return _gpu_shortage(context)
    if is_out_of_memory(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return Shortage(
            f"{context}: it needs more than {limit / 1e9:.1f} GB of memory",
            hint="Raise DELTADEX_EMBEDDING__MEMORY_BYTES, or start a worker on a machine with more.",
            resource=Resource.MEMORY,
            more_than=limit,
        )
    logger.error("%s", context, exc_info=error)
    return EmbeddingError(f"{context}: {first_line(error)} ({type(error).__name__})", hint="See the log.")


def _gpu_shortage(context: str) -> Shortage:
    limit = gpu_bytes() or 0  # not known: any machine may try
    size = f" of {limit / 1e9:.1f} GB" if limit else ""
    return Shortage(
        f"{context}: it needs more memory than the GPU{size} has free",
        hint="Start a worker on a machine with a larger GPU, or set DELTADEX_EMBEDDING__DEVICE=cpu.",
        resource=Resource.GPU,
        more_than=limit,
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, with the next one if it ends in a colon, or else its class."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1]) or type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Return True for errors that mean the process ran out of main memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _OUT_OF_MEMORY)
    )
