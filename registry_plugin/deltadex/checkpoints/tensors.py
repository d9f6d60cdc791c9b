"""Reading safetensors files without torch: their headers checked to the byte, their tensors in bounded pieces.

The format: 8 bytes little-endian header length, a JSON header of name → dtype, shape and byte range, then the bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltadex.errors import BrokenCheckpoint

#: The limit of the reference implementation.
_MAX_HEADER_BYTES = 100_000_000
_PIECE_BYTES = 1 << 20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}

#: How peft wraps the base's own tensors, and how it names what it adds.
_WRAPPED = re.compile(r"\.(token_adapter\.)?(base_layer|original_module)(?=\.)")
_ADDED = re.compile(
    r"\.(lora_|hada_|lokr_|ia3_|oft_|vera_|ln_tuning_layers\.|modules_to_save\.|trainable_tokens_|ranknum\.)"
)


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies in its file; `end` is exclusive."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    def pieces(self) -> Iterator[bytes]:
        """Yield the tensor's bytes in order, at most 1 MiB at once."""
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            left = self.end - self.start
            while left:
                piece = stream.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise BrokenCheckpoint(f"{self.file} shrank while it was read", hint="Log the checkpoint again.")
                left -= len(piece)
                yield piece

    def floats(self, count: int) -> NDArray[np.float32]:
        """Return the first `count` elements in row order as `(count,)` float32.

        Raises
        ------
        ValueError
            The tensor does not hold 16-, 32- or 64-bit floats.
        """
        return self._as_floats(np.fromfile(self.file, self._stored, count, offset=self.start))

    def at(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the elements at these places in row order as float32; only the pages that they lie in are read.

        Raises
        ------
        ValueError
            The tensor does not hold 16-, 32- or 64-bit floats.
        """
        raw = np.memmap(self.file, self._stored, "r", self.start, (math.prod(self.shape),))[places]
        return self._as_floats(np.asarray(raw))

    @property
    def _stored(self) -> np.dtype[Any]:
        if not self.is_float:
            raise ValueError(f"{self.name} holds {self.dtype}")
        return np.dtype(np.uint16 if self.dtype == "BF16" else _FLOATS[self.dtype])

    def _as_floats(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        if self.dtype == "BF16":  # numpy has no bfloat16: its bits are the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False)

    @property
    def is_float(self) -> bool:
        """Whether `floats` can read it."""
        return self.dtype == "BF16" or self.dtype in _FLOATS


def read_tensors(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Return every tensor of these safetensors files by name.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or no safetensors file, or two files hold a tensor of the same name.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in _read_file(file):
            if tensor.name in tensors:
                raise _broken(file, f"holds {tensor.name}, as {tensors[tensor.name].file.name} does")
            tensors[tensor.name] = tensor
    return tensors


def without_adapter(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return a full model's tensors by the names they have without the adapter that was around it when it was saved.

    MLflow writes such a `model` beside an adapter of a local base (mlflow#23761): `q_proj.base_layer.weight`, and the
    adapter's own tensors between them.

    Raises
    ------
    BrokenCheckpoint
        Two tensors would have the same name.
    """
    if not any(_WRAPPED.search(name) for name in tensors):
        return dict(tensors)
    bare: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        if _ADDED.search(name):
            continue
        own = _WRAPPED.sub("", name)
        if own in bare:
            raise _broken(tensor.file, f"holds {own} both with an adapter around it and without")
        bare[own] = replace(tensor, name=own)
    return bare


def _read_file(file: Path) -> list[StoredTensor]:
    size = file.stat().st_size
    header, data_start = _read_header(file, size)
    try:
        tensors = [_stored(name, entry, file, data_start) for name, entry in header.items() if name != "__metadata__"]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(file, f"has a header that makes no sense ({error})") from error
    end = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != end:
            raise _broken(file, f"has a gap or an overlap before {tensor.name}")
        end = tensor.end
    if size != end:
        raise _broken(file, f"should have {end:,} bytes and has {size:,}")
    return tensors


def _read_header(file: Path, size: int) -> tuple[Mapping[str, Any], int]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > _MAX_HEADER_BYTES:
            raise _broken(file, f"is no safetensors file ({size:,} bytes)")
        if size < 8 + length:
            raise _broken(file, f"should have more than {8 + length:,} bytes and has {size:,}")
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise _broken(file, f"is no safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise _broken(file, "is no safetensors file (its header is no object)")
    return header, 8 + length


def _stored(name: str, entry: Mapping[str, Any], file: Path, data_start: int) -> StoredTensor:
    start, end = map(int, entry["data_offsets"])
    shape = tuple(int(length) for length in entry["shape"])
    bits = math.prod(shape) * _BITS[entry["dtype"]]
    if not 0 <= start <= end or (end - start) * 8 != bits or min(shape, default=0) < 0:
        raise ValueError(f"{name}: bytes {start} to {end} for a {entry['dtype']} of shape {shape}")
    return StoredTensor(name, entry["dtype"], shape, file, data_start + start, data_start + end)


def _broken(file: Path, what: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"{file.name} {what}", hint="The upload was cut short or the file was altered: log the checkpoint again."
    )
