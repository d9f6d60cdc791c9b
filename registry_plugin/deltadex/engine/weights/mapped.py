"""Memory-mapped safetensors files, with read-ahead and release."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

from deltadex.checkpoints.tensors import StoredTensor

_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "C64": torch.complex64,
}  # fmt: skip


class MappedFiles:
    """Read-only memory maps; tensors are views of their files, in memory that the kernel can reclaim."""

    def __init__(self) -> None:
        self._maps: dict[Path, tuple[mmap.mmap, torch.Tensor]] = {}

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Return a read-only tensor in the dtype of the file."""
        _, content = self._map(stored.file)
        piece = content[stored.start : stored.end]
        dtype = _DTYPES[stored.dtype]
        if stored.start % dtype.itemsize:  # an old file without header padding
            piece = piece.clone()
        return piece.view(dtype).view(stored.shape)

    def will_need(self, tensors: Iterable[StoredTensor]) -> None:
        """Ask the kernel to read these tensors from disk in the background."""
        for stored in tensors:
            start = stored.start - stored.start % mmap.PAGESIZE
            self._advise(stored, mmap.MADV_WILLNEED, start, stored.end)

    def release(self, tensors: Iterable[StoredTensor]) -> None:
        """Release these tensors from this process's memory; the page cache may keep them."""
        for stored in tensors:
            start = stored.start + -stored.start % mmap.PAGESIZE
            self._advise(stored, mmap.MADV_DONTNEED, start, stored.end - stored.end % mmap.PAGESIZE)

    def _advise(self, stored: StoredTensor, advice: int, start: int, end: int) -> None:
        if start < end:
            self._map(stored.file)[0].madvise(advice, start, end - start)

    def _map(self, file: Path) -> tuple[mmap.mmap, torch.Tensor]:
        if file not in self._maps:
            with file.open("rb") as stream, warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given buffer is not writable")  # intended
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                self._maps[file] = mapped, torch.frombuffer(mapped, dtype=torch.uint8)
        return self._maps[file]
