"""What one version may take on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from deltadex.checkpoints.cache import FolderCache
from deltadex.errors import Resource
from deltadex.settings import Settings


def open_cache(settings: Settings) -> FolderCache:
    """Return the cache of fetched files that all workers of this machine and data folder share."""
    return FolderCache(settings.cache_dir / "folders", max_bytes=settings.cache.max_bytes)


def limits(settings: Settings) -> Mapping[Resource, float]:
    """Return how much there is of each resource, in bytes and seconds."""
    return {
        Resource.MEMORY: settings.embedding.memory_bytes,
        Resource.DISK: open_cache(settings).capacity(),
        Resource.TIME: settings.embedding.deadline_seconds,
    }
