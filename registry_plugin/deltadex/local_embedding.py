"""Embeddings of finetunes that are folders on this machine, without any service."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.downloads.cache import Hold, open_cache
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.plain_copies import plain_copy
from deltadex.engine.probes import DEFAULT_METHOD, METHODS
from deltadex.engine.requests import BaseModel, Checked
from deltadex.engine.shared import base_model
from deltadex.errors import DeltadexError
from deltadex.settings import Settings, load_settings
from deltadex.types import Embedding


def embed(
    model: str | PathLike[str],
    *,
    base: str | PathLike[str],
    method: str = DEFAULT_METHOD,
    settings: Settings | None = None,
) -> Embedding:
    """Embed a finetune as the mean shift of its base's last hidden state over fixed prompts.

    The model runs in its own process, which ends with this call. Needs the packages of `deltadex[embed]`.

    Parameters
    ----------
    model
        Folder of the finetune: a LoRA adapter or a full model.
    base
        Folder of the base model.
    method
        Name in `deltadex.engine.probes.METHODS`: `content`, or `published` for the paper's own prompts.
    settings
        Limits, device and dtype; default: read from the environment and the data folder.

    Returns
    -------
    Embedding
        Comparable with embeddings of an equal `recipe`: same base, prompts and dtype.

    Raises
    ------
    deltadex.errors.CheckpointError
        A folder holds no complete model, one of an unsupported kind, or one that does not fit the base.
    deltadex.errors.EmbeddingError
        The computation failed.
    deltadex.errors.Shortage
        Memory or time ran out.
    deltadex.errors.DeltadexError
        There is no such method.

    Examples
    --------
    >>> import deltadex
    >>> embedding = deltadex.embed("adapter/", base="base/")
    >>> embedding.vector.shape, embedding.vector.dtype
    ((32,), dtype('float32'))
    >>> embedding.strength > 0.01  # norm of the shift, as a share of the norm of the base's own hidden state
    True
    """
    if method not in METHODS:
        raise DeltadexError(f"There is no method {method!r}", hint=f"Methods: {', '.join(METHODS)}.")
    settings = settings or load_settings()
    limits = settings.embedding
    with EmbeddingProcess(memory_bytes=limits.memory_bytes) as process, open_cache(settings).holding() as hold:
        described = read_base(process, Path(base), settings, hold, method=method)
        checked = read_finetune(process, Path(model), described.checkpoint, settings, hold)
        [(_, outcome)] = process.embed(described, [checked.finetune], deadline_seconds=limits.deadline_seconds)
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def read_base(process: EmbeddingProcess, folder: Path, settings: Settings, hold: Hold, *, method: str) -> BaseModel:
    """Return the description of the base in a folder."""
    return base_model(settings, process, _plain(process, folder, settings, hold), method=method)


def read_finetune(
    process: EmbeddingProcess, folder: Path, base: LocalCheckpoint, settings: Settings, hold: Hold
) -> Checked:
    """Return the description of the finetune in a folder, and its fit to the base.

    Raises
    ------
    BaseMismatch
        The finetune was not made from this base.
    """
    return process.check(
        _plain(process, folder, settings, hold),
        base,
        base_name=str(base),
        memo=settings.cache_dir / "digests",
        deadline_seconds=settings.embedding.deadline_seconds,
    )


def _plain(process: EmbeddingProcess, folder: Path, settings: Settings, hold: Hold) -> LocalCheckpoint:
    """Return the checkpoint in a folder, or a plain copy of it in the cache."""
    limits = settings.embedding
    stored = process.inspect(LocalFiles(folder), read_pickles=limits.read_pickles).fetch()
    return plain_copy(process, stored, hold, deadline_seconds=limits.deadline_seconds)
