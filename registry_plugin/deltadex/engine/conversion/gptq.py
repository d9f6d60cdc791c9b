"""Weights quantized by GPTQ, in the layout that AutoGPTQ and gptqmodel save.

`qweight` holds integers packed along the inputs, `qzeros` the zero points packed along the outputs, `scales` a factor
for each group of inputs, and `g_idx` the group of each input: weight = scale · (integer - zero point).
"""

from __future__ import annotations

from functools import partial

import torch

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.conversion.packed_integers import unpack, words_per_period
from deltadex.engine.conversion.plain_tensor import PlainTensor
from deltadex.engine.conversion.stored import StoredWeights
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

_SUFFIXES = (".qweight", ".qzeros", ".scales", ".g_idx")
_BITS = (2, 3, 4, 8)
_FORMATS = ("gptq", "gptq_v2")


def plain_tensors(checkpoint: LocalCheckpoint) -> list[PlainTensor]:
    """Return the tensors of the plain copy; matrices get the dtype of their scales.

    Raises
    ------
    UnsupportedCheckpoint
        The integers are in the order of a GPU's kernel, or have another number of bits.
    BrokenCheckpoint
        Tensors are missing or contradict each other.
    """
    stored = StoredWeights(checkpoint)
    bits, layout = stored.settings.get("bits"), str(stored.settings.get("checkpoint_format") or "gptq")
    if bits not in _BITS or layout not in _FORMATS:
        raise UnsupportedCheckpoint(
            f"{checkpoint} is quantized by GPTQ to {bits} bits in the format {layout}, which only gptqmodel reads",
            hint=f"Save it in the format gptq, with {', '.join(map(str, _BITS))} bits, or register the plain model.",
        )
    modules = stored.modules(".qweight")
    return [
        *stored.others(_SUFFIXES),
        *(stored.oriented(_matrix(stored, module, bits, is_shifted=layout == "gptq")) for module in modules),
    ]


def _matrix(stored: StoredWeights, module: str, bits: int, *, is_shifted: bool) -> PlainTensor:
    rows, outputs = stored.load(f"{module}.qweight").shape
    if rows % words_per_period(bits):
        raise _contradiction(stored, f"{module}.qweight", f"has {rows} rows, which integers of {bits} bits do not fill")
    dtype = stored.load(f"{module}.scales").dtype
    values = partial(_dequantize, stored, module, bits, is_shifted=is_shifted)
    return PlainTensor(f"{module}.weight", (outputs, rows // bits * 32), dtype, values, bits=bits)


def _dequantize(stored: StoredWeights, module: str, bits: int, *, is_shifted: bool) -> torch.Tensor:
    integers, scales = unpack(stored.load(f"{module}.qweight"), bits), stored.load(f"{module}.scales")
    zeros = unpack(stored.load(f"{module}.qzeros").T.contiguous(), bits).T[:, : scales.shape[1]]
    if is_shifted:  # the first format stores zero points less one, and the last value stands for zero
        zeros = (zeros + 1) & (2**bits - 1)
    groups = _groups(stored, module, inputs=len(integers), groups=len(scales))
    weights = torch.empty((integers.shape[1], len(integers)), dtype=scales.dtype)
    for group in range(len(scales)):
        members = groups == group
        difference = integers[members].to(torch.int16) - zeros[group].to(torch.int16)
        weights[:, members] = (scales[group] * difference).T
    return weights


def _groups(stored: StoredWeights, module: str, *, inputs: int, groups: int) -> torch.Tensor:
    """Return the group of each input; without `desc_act` they follow each other."""
    name = f"{module}.g_idx"
    if name not in stored.tensors:
        return torch.arange(inputs) // (-(-inputs // groups))
    found = stored.load(name)
    if len(found) != inputs or int(found.min()) < 0 or int(found.max()) >= groups:
        raise _contradiction(stored, name, f"does not give one of {groups} groups for each of {inputs} inputs")
    return found


def _contradiction(stored: StoredWeights, name: str, problem: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(f"{name} of {stored.checkpoint} {problem}", hint="Quantize the model again.")
