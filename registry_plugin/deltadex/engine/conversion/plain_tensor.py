"""Tensors of a plain copy, and their files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deltadex.errors import BrokenCheckpoint

_SHARD_BYTES = 1 << 30
#: Names of dtypes in safetensors files.
DTYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class PlainTensor:
    """A tensor of a plain copy, described before it is computed.

    Attributes
    ----------
    values
        Computes it.
    bits
        Bits per weight that it was quantized to; None if it was not.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    values: Callable[[], torch.Tensor]
    bits: float | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in a plain file."""
        return prod(self.shape) * self.dtype.itemsize


def write(tensors: Sequence[PlainTensor], folder: Path, *, stem: str) -> None:
    """Write tensors to safetensors files of about a gigabyte, computing one at a time.

    Parameters
    ----------
    stem
        `model` or `adapter_model`. An adapter gets one file, as peft reads it.
    """
    shards = list(_shards(tensors)) if stem == "model" else [list(tensors)]
    if len(shards) == 1:
        _write_file(shards[0], folder / f"{stem}.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = folder / f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(shard, file)
        weight_map |= {tensor.name: file.name for tensor in shard}
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def _shards(tensors: Sequence[PlainTensor]) -> Iterator[list[PlainTensor]]:
    shard: list[PlainTensor] = []
    size = 0
    for tensor in tensors:
        if shard and size + tensor.nbytes > _SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += tensor.nbytes
    yield shard


def _write_file(tensors: Sequence[PlainTensor], file: Path) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.nbytes
        header[tensor.name] = {"dtype": DTYPES[tensor.dtype], "shape": tensor.shape, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # aligned, so that tensors can be mapped
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            stream.write(_bytes(tensor).data)
        stream.flush()
        os.fsync(stream.fileno())


def _bytes(tensor: PlainTensor) -> NDArray[np.uint8]:
    values = tensor.values().detach()
    if tuple(values.shape) != tensor.shape:
        raise BrokenCheckpoint(
            f"{tensor.name} has shape {tuple(values.shape)}, and its description says {tensor.shape}",
            hint="Quantize the model again.",
        )
    found: NDArray[np.uint8] = values.to(tensor.dtype).contiguous().reshape(-1).view(torch.uint8).numpy()
    return found
