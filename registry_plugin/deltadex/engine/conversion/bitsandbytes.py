"""Weights quantized by bitsandbytes: 4 bits (nf4, fp4) and 8 bits (LLM.int8), read by the package itself."""

from __future__ import annotations

import json
from functools import partial

import torch

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.conversion.plain_tensor import PlainTensor
from deltadex.engine.conversion.stored import StoredWeights
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

_STATE = ".weight.quant_state.bitsandbytes__"
_SUFFIXES = (
    ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map", ".SCB",
    ".weight_format", f"{_STATE}nf4", f"{_STATE}fp4",
)  # fmt: skip


def plain_tensors(checkpoint: LocalCheckpoint) -> list[PlainTensor]:
    """Return the tensors of the plain copy.

    Matrices in 4 bits get the dtype that they had before, those in 8 bits float32.

    Raises
    ------
    BrokenCheckpoint
        Tensors that describe the quantization are missing or contradict each other.
    UnsupportedCheckpoint
        The weights are in the order of a GPU.
    """
    stored = StoredWeights(checkpoint)
    four = {module: kind for kind in ("nf4", "fp4") for module in stored.modules(f"{_STATE}{kind}")}
    eight = stored.modules(".SCB")
    quantized = {f"{module}.weight" for module in (*four, *eight)}
    return [
        *(one for one in stored.others(_SUFFIXES) if one.name not in quantized),
        *(stored.oriented(_in_four_bits(stored, module, kind)) for module, kind in four.items()),
        *(stored.oriented(_in_eight_bits(stored, module)) for module in eight),
    ]


def _in_four_bits(stored: StoredWeights, module: str, kind: str) -> PlainTensor:
    name, state = f"{module}.weight", f"{module}{_STATE}{kind}"
    try:
        described = json.loads(bytes(stored.load(state).tolist()))
        shape, dtype = tuple(map(int, described["shape"])), getattr(torch, described["dtype"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenCheckpoint(
            f"{state} of {stored.checkpoint} does not describe a quantization", hint="Quantize the model again."
        ) from error
    return PlainTensor(name, shape, dtype, partial(_dequantize, stored, name, state), bits=4)


def _dequantize(stored: StoredWeights, name: str, state: str) -> torch.Tensor:
    from bitsandbytes.functional import QuantState, dequantize_4bit

    parts = {key: stored.load(key).clone() for key in stored.tensors if key.startswith(f"{name}.") and key != state}
    described = QuantState.from_dict({**parts, state: stored.load(state).clone()}, device=torch.device("cpu"))
    values: torch.Tensor = dequantize_4bit(stored.load(name).clone(), described)
    return values


def _in_eight_bits(stored: StoredWeights, module: str) -> PlainTensor:
    from bitsandbytes.functional import int8_vectorwise_dequant

    name, order = f"{module}.weight", f"{module}.weight_format"
    if order in stored.tensors and int(stored.load(order)):
        raise UnsupportedCheckpoint(
            f"{name} of {stored.checkpoint} is stored in the order of a GPU's int8 kernel",
            hint="Save it with bitsandbytes 0.45 or newer, which stores rows.",
        )

    def values() -> torch.Tensor:
        rows: torch.Tensor = int8_vectorwise_dequant(stored.load(name), stored.load(f"{module}.SCB"))
        return rows

    return PlainTensor(name, stored.tensors[name].shape, torch.float32, values, bits=8)
