"""Pickled tensors (`pytorch_model.bin`, `adapter_model.bin`), read by torch's weights-only loader.

The loader builds tensors and containers, and nothing else: a pickle that names any other function or class is refused.
"""

from __future__ import annotations

import mmap
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.conversion.plain_tensor import DTYPES, PlainTensor
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

#: The part of a file that is not tensors: names, shapes and places.
_MAX_DESCRIPTION_BYTES = 64 << 20
#: Trainers put the tensors beside the state of the training.
_NESTED = ("state_dict", "model")


def plain_tensors(checkpoint: LocalCheckpoint) -> list[PlainTensor]:
    """Return the tensors of the plain copy, in their own dtypes.

    Raises
    ------
    UnsupportedCheckpoint
        A file holds something else than tensors.
    BrokenCheckpoint
        A file is damaged, or a tensor is larger than its file.
    """
    tensors: dict[str, PlainTensor] = {}
    for file in checkpoint.weight_files:
        for tensor in _tensors(file, checkpoint):
            if tensor.name in tensors:
                raise BrokenCheckpoint(
                    f"{file.name} of {checkpoint} holds {tensor.name} again", hint="Save the model again."
                )
            tensors[tensor.name] = tensor
    if not tensors:
        raise UnsupportedCheckpoint(f"{checkpoint} has no tensors in its pickle", hint="Save it with save_pretrained.")
    return list(tensors.values())


def _tensors(file: Path, checkpoint: LocalCheckpoint) -> Iterator[PlainTensor]:
    content = _load(file, checkpoint)
    nested = next((content[key] for key in _NESTED if isinstance(content.get(key), dict)), content)
    mapped = _mapped(file)
    for name, tensor in nested.items():
        if not isinstance(tensor, torch.Tensor):  # a step, a version
            continue
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.dtype not in DTYPES:
            raise UnsupportedCheckpoint(
                f"{name} in {file.name} of {checkpoint} is no plain tensor ({tensor.layout}, {tensor.dtype})",
                hint="Save the weights as dense floats.",
            )
        values = partial(_read, mapped, tensor) if tensor.is_meta else partial(_itself, tensor)
        start = _start(tensor) if tensor.is_meta else 0
        extent = _extent(tensor)
        stored = len(mapped) - start if tensor.is_meta else tensor.untyped_storage().nbytes()
        if extent > stored or tensor.numel() * tensor.itemsize > extent:
            raise BrokenCheckpoint(
                f"{name} in {file.name} of {checkpoint} is larger than what is stored of it",
                hint="Save the model again.",
            )
        yield PlainTensor(str(name), tuple(tensor.shape), tensor.dtype, values)


def _mapped(file: Path) -> torch.Tensor:
    """Return the bytes of a file, mapped read-only. torch would map it for writing, which counts as memory."""
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), dtype=torch.uint8)


def _start(tensor: torch.Tensor) -> int:
    """Return the place of a tensor's storage in its file, which torch notes where it loads no values."""
    start = tensor.untyped_storage()._checkpoint_offset
    assert start is not None  # noqa: S101 - it is on the meta device
    return start


def _extent(tensor: torch.Tensor) -> int:
    """Return the bytes of the storage that a tensor reaches to."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = int(tensor.storage_offset()) + sum((length - 1) * stride for length, stride in steps)
    return (last + 1) * tensor.itemsize if tensor.numel() else 0


def _read(mapped: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    start = _start(tensor)
    stored = mapped[start : start + _extent(tensor)]
    if start % tensor.itemsize:
        stored = stored.clone()
    stored = stored.view(tensor.dtype)
    return stored.as_strided(tensor.shape, tensor.stride(), stored.storage_offset() + tensor.storage_offset())


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _load(file: Path, checkpoint: LocalCheckpoint) -> dict[Any, Any]:
    is_archive = zipfile.is_zipfile(file)
    if is_archive:
        _check_archive(file, checkpoint)
    try:
        # An archive is only described; files from before torch 1.6 can't be mapped, and are read as a whole.
        content = torch.load(file, map_location="meta" if is_archive else "cpu", weights_only=True)
    except UnpicklingError as error:
        raise UnsupportedCheckpoint(
            f"{file.name} of {checkpoint} is no pickle of tensors alone, and was not run: {_reason(error)}",
            hint="Save only the state dict, or better as safetensors.",
        ) from error
    if not isinstance(content, dict):
        raise UnsupportedCheckpoint(
            f"{file.name} of {checkpoint} holds {type(content).__name__}, not named tensors",
            hint="Save the state dict of the model.",
        )
    return content


def _check_archive(file: Path, checkpoint: LocalCheckpoint) -> None:
    """Refuse archives that unpack to more than they are; torch itself never compresses."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            is_description = entry.filename.endswith(".pkl")
            if entry.compress_type != zipfile.ZIP_STORED or (
                is_description and entry.file_size > _MAX_DESCRIPTION_BYTES
            ):
                raise BrokenCheckpoint(
                    f"{entry.filename} in {file.name} of {checkpoint} is compressed or too large, "
                    "as torch never writes it",
                    hint="Save the model again with torch.save.",
                )


def _reason(error: UnpicklingError) -> str:
    """Return the loader's reason without its advice to load the file anyway."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0] if lines else "")
    return named[:200]
