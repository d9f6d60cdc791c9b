"""Limits of the current machine for embedding one version."""

from __future__ import annotations

from collections.abc import Mapping

from deltadex.downloads.cache import open_cache
from deltadex.errors import Resource
from deltadex.settings import Settings


def limits(settings: Settings) -> Mapping[Resource, float]:
    """Return the limit of each resource, in bytes or seconds."""
    return {
        Resource.MEMORY: settings.embedding.memory_bytes,
        Resource.DISK: open_cache(settings).capacity(),
        Resource.TIME: settings.embedding.deadline_seconds,
    }
