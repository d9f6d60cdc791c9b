"""Limits of the current machine for embedding one version."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from deltadex.downloads.cache import open_cache
from deltadex.errors import Resource
from deltadex.machine import gpu_bytes
from deltadex.settings import Settings

NO_LIMIT = sys.float_info.max


def limits(settings: Settings) -> Mapping[Resource, float]:
    """Return the limit of each resource, in bytes or seconds; a machine that uses no GPU lacks no memory of one."""
    gpu = None if settings.embedding.device == "cpu" else gpu_bytes()
    return {
        Resource.MEMORY: settings.embedding.memory_bytes,
        Resource.GPU: NO_LIMIT if gpu is None else gpu,
        Resource.DISK: open_cache(settings).capacity(),
        Resource.TIME: settings.embedding.deadline_seconds,
    }
