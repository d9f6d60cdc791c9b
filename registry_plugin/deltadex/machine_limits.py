"""Limits of the current machine for embedding one version."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from deltadex.downloads.cache import open_cache
from deltadex.errors import Resource
from deltadex.machine import gpu_bytes
from deltadex.settings import Settings

NO_LIMIT = sys.float_info.max
#: Seconds since the epoch, before this process read any credentials.
_STARTED = time.time()


def limits(settings: Settings) -> Mapping[Resource, float]:
    """Return the limit of each resource, in bytes or seconds; a machine that uses no GPU lacks no memory of one.

    That of artifact stores is the start of this process: those that refused an earlier one may be open to it.
    """
    gpu = None if settings.embedding.device == "cpu" else gpu_bytes()
    return {
        Resource.MEMORY: settings.embedding.memory_bytes,
        Resource.GPU: NO_LIMIT if gpu is None else gpu,
        Resource.DISK: open_cache(settings).capacity(),
        Resource.TIME: settings.embedding.deadline_seconds,
        Resource.STORE: _STARTED,
    }
