"""GGUF files, read as transformers reads them with `gguf_file=…` and `GgufConfig(dequantize=True)`.

The package `gguf` unpacks the blocks of a tensor to float32; which parameter a tensor is, and how llama.cpp had turned
it, is transformers' own knowledge. It would load the whole model: here one parameter is computed at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer
from transformers.integrations.gguf.utils import is_gguf_arch_supported
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from deltadex.checkpoints.folder import CONFIG
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.conversion.gguf_mapped import plain_tensors_of
from deltadex.engine.conversion.plain_tensor import PlainTensor
from deltadex.engine.failures import first_line
from deltadex.engine.probes import PAPER_PROBES
from deltadex.engine.weights.stored_model import empty_model
from deltadex.errors import UnsupportedCheckpoint

logger = logging.getLogger(__name__)

_PIECE_BYTES = 16 << 20
#: Types that hold numbers as they are. Others hold blocks.
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float32}


def describe(checkpoint: LocalCheckpoint, folder: Path) -> LocalCheckpoint:
    """Write the config and the tokenizer that are inside the file to a folder, unless there are files of them.

    Raises
    ------
    UnsupportedCheckpoint
        transformers does not know the architecture.
    """
    [file] = checkpoint.weight_files
    if not (folder / CONFIG).exists():
        try:
            AutoConfig.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
        except (ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
            raise UnsupportedCheckpoint(
                f"transformers cannot read the GGUF file of {checkpoint}: {first_line(error)}",
                hint="Register the safetensors folder that the file was converted from.",
            ) from error
    if checkpoint.tokenizer_folder is None:
        _write_tokenizer(file, folder)
    return replace(checkpoint, folder=folder)


def _write_tokenizer(file: Path, folder: Path) -> None:
    """Write the tokenizer that is inside the file, if transformers can make one of it that reads the probes."""
    with TemporaryDirectory(dir=folder) as work:
        try:
            AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(work)
            AutoTokenizer.from_pretrained(work)(list(PAPER_PROBES.probes))
        except Exception as error:  # noqa: BLE001 - an untrusted vocabulary can fail anywhere in the library
            logger.warning("no tokenizer in GGUF file=%s error=%r: its base's will read", file, error)
            return
        for written in Path(work).iterdir():
            written.replace(folder / written.name)


def plain_tensors(checkpoint: LocalCheckpoint) -> list[PlainTensor]:
    """Return the tensors of the plain copy: blocks as float32, other matrices in their own dtype.

    Parameters
    ----------
    checkpoint
        As `describe` returns it.

    Raises
    ------
    UnsupportedCheckpoint
        transformers cannot build the model, or does not know the names in the file.
    """
    from gguf import GGUFReader

    [file] = checkpoint.weight_files
    model = empty_model(checkpoint, is_quantized=False)
    reader = GGUFReader(file)
    if is_gguf_arch_supported(_architecture(reader)):
        return plain_tensors_of(file, model)
    processor = TENSOR_PROCESSORS.get(_architecture(reader), TensorProcessor)(config=model.config.to_dict())
    names = get_gguf_hf_weights_map(model, processor)
    sources: dict[str, list[Any]] = {}
    for tensor in reader.tensors:
        # stacked experts are parameters, not modules: transformers maps them without the suffix
        name = names.get(tensor.name) or names.get(tensor.name.removesuffix(".weight"))
        if name:
            sources.setdefault(name, []).append(tensor)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return [
        PlainTensor(
            name,
            shapes[name],
            _dtype(tensors, axes=len(shapes[name])),
            partial(_values, name, tensors, processor, names),
            _bits(tensors),
        )
        for name, tensors in sources.items()
        if name in shapes
    ]


def _architecture(reader: Any) -> str:
    return str(reader.fields["general.architecture"].contents())


def _dtype(tensors: Sequence[Any], *, axes: int) -> torch.dtype:
    """Return a parameter's dtype. Vectors are changed in float32 (norms of Gemma less one)."""
    types = {tensor.tensor_type.name for tensor in tensors}
    return _FLOATS.get(types.pop(), torch.float32) if len(types) == 1 and axes > 1 else torch.float32


def _bits(tensors: Sequence[Any]) -> float | None:
    """Return the bits per weight, scales included; None if the numbers are stored as they are."""
    if all(tensor.tensor_type.name in _FLOATS for tensor in tensors):
        return None
    return 8 * sum(int(tensor.n_bytes) for tensor in tensors) / sum(int(tensor.n_elements) for tensor in tensors)


def _values(name: str, tensors: Sequence[Any], processor: TensorProcessor, names: Mapping[str, str]) -> torch.Tensor:
    """Return a parameter, put together by transformers from one tensor, or from the gates and ups of its experts."""
    parsed: dict[str, dict[str, torch.Tensor]] = {"tensors": {}}
    values: NDArray[Any] | None = None
    for tensor in tensors:
        result = processor.process(
            weights=_dequantized(tensor), name=tensor.name, tensor_key_mapping=names, parsed_parameters=parsed
        )
        values = result.weights
    return parsed["tensors"].get(name, torch.from_numpy(np.ascontiguousarray(values)))


def _dequantized(tensor: Any) -> NDArray[np.float32]:
    """Return a tensor as float32. The package makes several copies of what it unpacks: it gets a part at a time."""
    from gguf import dequantize

    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    step = max(1, _PIECE_BYTES // max(1, rows.shape[-1] * rows.itemsize))
    pieces = [dequantize(rows[start : start + step], tensor.tensor_type) for start in range(0, len(rows), step)]
    shape = tuple(int(length) for length in reversed(tensor.shape))
    return np.concatenate(pieces).reshape(shape).astype(np.float32, copy=False)
