"""Writing of the plain copy of a checkpoint."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

from deltadex.checkpoints.folder import CONFIG
from deltadex.checkpoints.inspect import SUPPORT_SUFFIXES, Kind, LocalCheckpoint
from deltadex.engine.conversion.methods import Method
from deltadex.engine.conversion.plain_tensor import PlainTensor, write
from deltadex.engine.failures import as_deltadex_error, first_line, is_out_of_memory
from deltadex.errors import BrokenCheckpoint, DeltadexError

logger = logging.getLogger(__name__)

_INDEX = ".index.json"
_QUANTIZATION = ("quantization_config", "quantization")
#: From a bit and a half per weight to 32 is a factor of 21; beyond this, the shapes are made up.
_MOST_GROWTH = 64


def write_plain_copy(
    checkpoint: LocalCheckpoint, method: Method, folder: Path, *, reserve: Callable[[int], None]
) -> float | None:
    """Write a plain copy of a checkpoint into an empty folder, one tensor at a time.

    Parameters
    ----------
    reserve
        Called with the size in bytes before anything large is written.

    Returns
    -------
    float or None
        Mean bits per quantized weight; None if no weights were quantized.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be converted.
    Shortage
        Memory ran out.
    """
    try:
        return _write(checkpoint, import_module(method.module), folder, reserve=reserve)
    except DeltadexError:
        raise
    except Exception as error:  # an untrusted file can fail anywhere in the libraries
        context = f"{checkpoint} could not be converted from {method.label}"
        if is_out_of_memory(error):
            raise as_deltadex_error(error, context=context) from error
        logger.info("%s", context, exc_info=error)
        reason = f"{context}: its files are damaged or of an unusual kind ({first_line(error)})"
        raise BrokenCheckpoint(reason, hint="Save the model again.") from error


def _write(
    checkpoint: LocalCheckpoint, module: ModuleType, folder: Path, *, reserve: Callable[[int], None]
) -> float | None:
    _copy_small_files(checkpoint, folder)
    described = module.describe(checkpoint, folder) if hasattr(module, "describe") else checkpoint
    tensors: list[PlainTensor] = module.plain_tensors(described)
    total, stored = sum(tensor.nbytes for tensor in tensors), sum(f.stat().st_size for f in checkpoint.weight_files)
    if total > _MOST_GROWTH * stored:
        raise BrokenCheckpoint(
            f"{checkpoint} describes {total:,} bytes of weights in files of {stored:,}", hint="Save the model again."
        )
    reserve(total)
    write(tensors, folder, stem="model" if checkpoint.kind is Kind.FULL else "adapter_model")
    return _mean_bits(tensors)


def _mean_bits(tensors: Sequence[PlainTensor]) -> float | None:
    quantized = [(tensor.bits, prod(tensor.shape)) for tensor in tensors if tensor.bits is not None]
    weights = sum(count for _, count in quantized)
    return sum(bits * count for bits, count in quantized) / weights if weights else None


def _copy_small_files(checkpoint: LocalCheckpoint, folder: Path) -> None:
    """Copy configs and tokenizer files, the model's config without its quantization."""
    for file in checkpoint.folder.iterdir():
        if file.is_file() and file.name.endswith(SUPPORT_SUFFIXES) and not file.name.endswith(_INDEX):
            shutil.copyfile(file, folder / file.name)
    config = folder / CONFIG
    if checkpoint.kind is Kind.FULL and config.exists():
        config.write_text(json.dumps(_without_quantization(json.loads(config.read_bytes())), indent=2))


def _without_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_quantization(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _QUANTIZATION
    }
