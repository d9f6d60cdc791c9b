"""What went wrong in a library, in our words."""

from __future__ import annotations

import errno
import logging
import resource

from deltadex.errors import DeltadexError, EmbeddingError, Resource, Shortage

#: How torch says it (c10, its allocator on processors; the C++ library); on a GPU it has an error of its own.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "could not create a memory")

logger = logging.getLogger(__name__)


def stated(error: Exception, *, what: str) -> DeltadexError:
    """Return a stated error for whatever ended a computation; what nobody foresaw goes to the log.

    Parameters
    ----------
    what
        What was being done, for messages: `/models/a could not be run`.
    """
    if isinstance(error, DeltadexError):
        return error
    if is_out_of_memory(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return Shortage(
            f"{what}: more than {limit / 1e9:.1f} GB of memory are needed",
            hint="Raise DELTADEX_EMBEDDING__MEMORY_BYTES, or start a worker on a machine with more.",
            resource=Resource.MEMORY,
            more_than=limit,
        )
    logger.error("%s", what, exc_info=error)
    return EmbeddingError(f"{what}: {type(error).__name__}: {first_line(error)}", hint="See the log.")


def first_line(error: Exception) -> str:
    """Return what an error says first; some say nothing, and some a page."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether there was too little memory for what was asked, on the processor's side."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
    )
