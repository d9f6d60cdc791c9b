"""Reader for safetensors files without torch: strict header checks, tensors read in bounded pieces.

The format: 8 bytes little-endian header length, a JSON header of name → dtype, shape and byte range, then the bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltadex.errors import BrokenCheckpoint, IncompleteCheckpoint

#: A tenth of a kilobyte per tensor: enough for 300,000 in one file. The reference implementation allows 100 MB.
_MAX_HEADER_BYTES = 32_000_000
_MAX_NAME, _MAX_AXES = 1000, 16
_PIECE_BYTES = 1 << 20
#: How git-lfs begins the text file that stands for a large one.
_LFS_POINTER = b"version "
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}

#: Modules that training wraps around others: torch.compile, FSDP, activation checkpointing.
_TRAINING_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: The same for a whole model: DDP, DeepSpeed.
_PARALLEL = "module."
#: The adapter's name inside peft, which `save_pretrained` leaves out: `lora_A.default.weight`.
_ADAPTER_NAME = re.compile(
    r"(?<=\.)(lora_(?:A|B|magnitude_vector))\.\w+(?=\.weight$)|(?<=\.)(lora_embedding_[AB])\.\w+$"
)
#: A module that was trained whole, under its name inside peft.
_TRAINED_WHOLE = re.compile(r"\.modules_to_save(\.\w+)?(?=\.(weight|bias)$)")
_PEFT = "base_model."

#: peft's prefixes for wrapped tensors of the base, and for the tensors that it adds.
_WRAPPED = re.compile(r"\.(token_adapter\.)?(base_layer|original_module)(?=\.)")
_ADDED = re.compile(
    r"\.(lora_|hada_|lokr_|ia3_|oft_|vera_|ln_tuning_layers\.|modules_to_save\.|trainable_tokens_|ranknum\.)"
)


@dataclass(frozen=True)
class StoredTensor:
    """Location of one tensor in its file; `end` is exclusive."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    def pieces(self) -> Iterator[bytes]:
        """Yield the tensor's bytes in order, at most 1 MiB at a time."""
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            remaining = self.end - self.start
            while remaining:
                piece = stream.read(min(remaining, _PIECE_BYTES))
                if not piece:
                    raise BrokenCheckpoint(f"{self.file} shrank while it was read", hint="Log the checkpoint again.")
                remaining -= len(piece)
                yield piece

    def floats(self, count: int) -> NDArray[np.float32]:
        """Return the first `count` elements in row order as `(count,)` float32.

        Raises
        ------
        ValueError
            The tensor does not hold 16-, 32- or 64-bit floats.
        """
        return self._as_floats(np.fromfile(self.file, self._numpy_dtype, count, offset=self.start))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the elements at these row-order positions as float32, reading only the pages that contain them.

        Raises
        ------
        ValueError
            The tensor does not hold 16-, 32- or 64-bit floats.
        """
        raw = np.memmap(self.file, self._numpy_dtype, "r", self.start, (math.prod(self.shape),))[positions]
        return self._as_floats(np.asarray(raw))

    @property
    def _numpy_dtype(self) -> np.dtype[Any]:
        if not self.is_float:
            raise ValueError(f"{self.name} holds {self.dtype}")
        return np.dtype(np.uint16 if self.dtype == "BF16" else _FLOATS[self.dtype])

    def _as_floats(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        if self.dtype == "BF16":  # numpy has no bfloat16: its bits are the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False)

    @property
    def is_float(self) -> bool:
        """True if `floats` can read the tensor."""
        return self.dtype == "BF16" or self.dtype in _FLOATS


def read_tensors(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Return the tensors of safetensors files by name.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or not a safetensors file, or two files contain a tensor of the same name.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in _read_file(file):
            if tensor.name in tensors:
                raise _broken(file, f"contains {tensor.name}, as {tensors[tensor.name].file.name} does")
            tensors[tensor.name] = tensor
    return tensors


def without_adapter(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return a full model's tensors under their names without the adapter that was attached when it was saved.

    MLflow writes such a `model` beside an adapter of a local base (mlflow#23761): `q_proj.base_layer.weight`, mixed
    with the adapter's own tensors.

    Raises
    ------
    BrokenCheckpoint
        Two tensors would have the same name.
    """
    if not any(_WRAPPED.search(name) for name in tensors):
        return dict(tensors)
    without: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        if _ADDED.search(name):
            continue
        bare_name = _WRAPPED.sub("", name)
        if bare_name in without:
            raise _broken(tensor.file, f"contains {bare_name} both with an adapter attached and without")
        without[bare_name] = replace(tensor, name=bare_name)
    return without


def without_training_wrappers(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return tensors under the names that they had before training wrapped their modules."""
    parallel = _PARALLEL if all(name.startswith(_PARALLEL) for name in tensors) else ""
    return _renamed(tensors, lambda name: _TRAINING_WRAPPERS.sub("", name.removeprefix(parallel)))


def with_peft_names(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return an adapter's tensors under the names that `save_pretrained` gives them.

    Trainers that write the state themselves leave the adapter's name or peft's wrapper in the names, or take
    `base_model.model` off. Where a module is there both by its own name and as peft's copy, the first one counts.
    """
    prefix = "" if not _adds(tensors) or any(name.startswith(_PEFT) for name in tensors) else f"{_PEFT}model."

    def own(name: str) -> str:
        name = prefix + _ADAPTER_NAME.sub(lambda found: found[1] or found[2], name)
        whole = _TRAINED_WHOLE.sub("", name)
        return name if whole in tensors else whole

    return _renamed(tensors, own)


def _adds(tensors: Mapping[str, StoredTensor]) -> bool:
    return any(_ADDED.search(f".{name}") for name in tensors)


def _renamed(tensors: Mapping[str, StoredTensor], rename: Callable[[str], str]) -> dict[str, StoredTensor]:
    renamed: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        own = rename(name)
        if own in renamed:
            raise _broken(tensor.file, f"contains {own} twice, also as {name}")
        renamed[own] = tensor if own == name else replace(tensor, name=own)
    return renamed


def _read_file(file: Path) -> list[StoredTensor]:
    size = file.stat().st_size
    header, data_start = _read_header(file, size)
    try:
        tensors = [
            _stored_tensor(name, entry, file, data_start) for name, entry in header.items() if name != "__metadata__"
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(file, f"has an invalid header ({error})") from error
    end = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != end:
            raise _broken(file, f"has a gap or an overlap before {tensor.name}")
        end = tensor.end
    if size != end:
        raise _broken(file, f"should have {end:,} bytes and has {size:,}", is_short=size < end)
    return tensors


def _read_header(file: Path, size: int) -> tuple[Mapping[str, Any], int]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length == int.from_bytes(_LFS_POINTER, "little"):
            raise BrokenCheckpoint(
                f"{file.name} is a pointer of git-lfs, not the file itself",
                hint="Fetch the file with `git lfs pull` and log the checkpoint again.",
            )
        if size < 8 or length > _MAX_HEADER_BYTES:
            raise _broken(file, f"is not a safetensors file ({size:,} bytes)")
        if size < 8 + length:
            raise _broken(file, f"should have more than {8 + length:,} bytes and has {size:,}", is_short=True)
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise _broken(file, f"is not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise _broken(file, "is not a safetensors file (its header is not an object)")
    return header, 8 + length


def _stored_tensor(name: str, entry: Mapping[str, Any], file: Path, data_start: int) -> StoredTensor:
    if len(name) > _MAX_NAME or len(entry["shape"]) > _MAX_AXES:
        raise ValueError(f"{name[:80]}…: names have at most {_MAX_NAME} characters, shapes {_MAX_AXES} axes")
    start, end = map(int, entry["data_offsets"])
    shape = tuple(int(length) for length in entry["shape"])
    if max(shape, default=0) >> 63:
        raise ValueError(f"{name}: an axis longer than any memory")
    bits = math.prod(shape) * _BITS[entry["dtype"]]
    if not 0 <= start <= end or (end - start) * 8 != bits or min(shape, default=0) < 0:
        raise ValueError(f"{name}: bytes {start} to {end} for a {entry['dtype']} of shape {shape}")
    return StoredTensor(name, entry["dtype"], shape, file, data_start + start, data_start + end)


def _broken(file: Path, problem: str, *, is_short: bool = False) -> BrokenCheckpoint:
    kind = IncompleteCheckpoint if is_short else BrokenCheckpoint
    return kind(
        f"{file.name} {problem}", hint="The upload was cut short or the file was altered: log the checkpoint again."
    )
