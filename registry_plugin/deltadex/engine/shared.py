"""The embedding process that all workers of one data folder share, and what the settings tell it about a base."""

from __future__ import annotations

from pathlib import Path

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.connection import end_shared
from deltadex.engine.requests import BaseModel
from deltadex.settings import Settings


def embedding_process(settings: Settings) -> EmbeddingProcess:
    """Return a connection to the shared embedding process."""
    return EmbeddingProcess(
        shared_by=_embedder_folder(settings),
        keep_warm_seconds=settings.embedding.keep_warm_seconds,
        memory_bytes=settings.embedding.memory_bytes,
    )


def end_embedding_process(settings: Settings) -> None:
    """End the shared embedding process, if it is running."""
    end_shared(_embedder_folder(settings))


def base_model(settings: Settings, process: EmbeddingProcess, base: LocalCheckpoint, *, method: str) -> BaseModel:
    """Return the engine's description of a base on this machine; the method is one of `probes.METHODS`."""
    cache, limits = settings.cache_dir, settings.embedding
    digest = process.digest(base, memo=cache / "digests", deadline_seconds=limits.deadline_seconds)
    return BaseModel(base, digest, limits.compute_dtype, cache / "base-states", limits.device, limits.words, method)


def _embedder_folder(settings: Settings) -> Path:
    return settings.data_dir / "embedder"
