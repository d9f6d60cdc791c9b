"""Plain copies of checkpoints, made in this process, and what the engine makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.conversion.convert import write_plain_copy
from deltadex.engine.conversion.methods import method_for
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import DeltadexError
from tests.saved_checkpoints import local


def plain(folder: Path, to: Path) -> LocalCheckpoint:
    """The plain copy of the checkpoint in a folder."""
    checkpoint = inspect(LocalFiles(folder), read_pickles=True).fetch()
    method = method_for(checkpoint)
    assert method is not None
    to.mkdir()
    bits = write_plain_copy(checkpoint, method, to, reserve=lambda _: None)
    files = tuple(sorted(to.glob("*.safetensors")))
    tokenizer = to if (to / "tokenizer.json").exists() else None
    return replace(checkpoint, folder=to, weight_files=files, tokenizer_folder=tokenizer, packed_by=None, bits=bits)


def stored(checkpoint: LocalCheckpoint) -> dict[str, torch.Tensor]:
    return {name: tensor for file in checkpoint.weight_files for name, tensor in load_file(file).items()}


def probe_deltas(base: Path, finetune: LocalCheckpoint) -> np.ndarray:
    engine = Base(BaseModel(local(base), digest="base", dtype="float32"))
    ((_, outcome),) = engine.embed([Finetune(finetune, "weights")])
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome.probe_deltas


def assert_close(found: np.ndarray, expected: np.ndarray, *, tolerance: float = 1e-4) -> None:
    assert np.linalg.norm(expected) > 0
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)
