"""Plain copies of quantized and pickled checkpoints, in the cache. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from deltadex.checkpoints.digest import fingerprint
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.downloads.cache import Entry, Hold
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.conversion.methods import METHODS

#: Written last: a copy without it is not finished.
_FACTS = "conversion.json"
_UNFINISHED = "unfinished-"


def plain_copy(
    process: EmbeddingProcess,
    checkpoint: LocalCheckpoint,
    hold: Hold,
    *,
    deadline_seconds: float,
    key: str | None = None,
) -> LocalCheckpoint:
    """Return a checkpoint as plain safetensors: itself, or a copy in the cache, made once.

    Parameters
    ----------
    key
        Key of the entry that the copy belongs to; default: one of its own, for files that stay.

    Raises
    ------
    CheckpointError
        It cannot be converted.
    Shortage
        The cache is too small for the copy, or memory or time ran out.
    """
    if checkpoint.below is not None:
        below = plain_copy(process, checkpoint.below, hold, deadline_seconds=deadline_seconds, key=key)
        checkpoint = replace(checkpoint, below=below)
    if checkpoint.packed_by not in METHODS:
        return checkpoint
    identity = _identity(checkpoint)
    entry = hold(key or f"plain copy of {checkpoint} {identity}")
    folder = entry.folder.with_name(f"plain-{identity}")
    if not (folder / _FACTS).is_file():
        _make(process, checkpoint, folder, entry, deadline_seconds)
    return _as_checkpoint(checkpoint, folder)


def _make(
    process: EmbeddingProcess, checkpoint: LocalCheckpoint, folder: Path, entry: Entry, deadline_seconds: float
) -> None:
    """Make the copy beside its place, and move it there when it is whole."""
    with entry.writing() as reserve:
        if (folder / _FACTS).is_file():  # another process made it while we waited
            return
        for left_over in folder.parent.glob(f"{_UNFINISHED}*"):  # of a killed process
            shutil.rmtree(left_over, ignore_errors=True)
        unfinished = Path(mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
        try:
            converted = process.convert(checkpoint, unfinished, deadline_seconds=deadline_seconds, reserve=reserve)
            facts = {"is_needed": converted.is_needed, "bits": converted.bits}
            (unfinished / _FACTS).write_text(json.dumps(facts))
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _identity(checkpoint: LocalCheckpoint) -> str:
    """Return what a copy depends on, as a short name: the files with weights, the config and the method."""
    config = checkpoint.config_file.read_bytes() if checkpoint.config_file.is_file() else b""
    return hashlib.sha256(f"{checkpoint.packed_by} {fingerprint(checkpoint)} ".encode() + config).hexdigest()[:16]


def _as_checkpoint(checkpoint: LocalCheckpoint, folder: Path) -> LocalCheckpoint:
    """Return the plain copy of a checkpoint, under the name of the original."""
    facts = json.loads((folder / _FACTS).read_bytes())
    if not facts["is_needed"]:  # its config names a quantization that its weights don't have
        return replace(checkpoint, packed_by=None)
    stem = "model" if checkpoint.kind is Kind.FULL else "adapter_model"
    own_tokenizer = folder if any(folder.glob("tokenizer*")) else None
    return replace(
        checkpoint,
        folder=folder,
        weight_files=tuple(sorted(folder.glob(f"{stem}*.safetensors"))),
        tokenizer_folder=checkpoint.tokenizer_folder or own_tokenizer,
        packed_by=None,
        bits=facts["bits"],
    )
