"""Weights quantized by AWQ, in the layout that AutoAWQ saves for its GEMM kernel.

`qweight` and `qzeros` hold eight integers of 4 bits in each word along the outputs, in an order of their own; `scales`
has a factor for each group of inputs: weight = scale · (integer - zero point).
"""

from __future__ import annotations

from functools import partial

import torch

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.conversion.packed_integers import unpack
from deltadex.engine.conversion.plain_tensor import PlainTensor
from deltadex.engine.conversion.stored import StoredWeights
from deltadex.errors import UnsupportedCheckpoint

_SUFFIXES = (".qweight", ".qzeros", ".scales")
_BITS = 4
#: Place of each of eight neighbouring outputs in its word, the lowest bits first (AutoAWQ, `AWQ_REVERSE_ORDER`).
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


def plain_tensors(checkpoint: LocalCheckpoint) -> list[PlainTensor]:
    """Return the tensors of the plain copy; matrices get the dtype of their scales.

    Raises
    ------
    UnsupportedCheckpoint
        The integers are in the order of another kernel, or activations are scaled, too.
    """
    stored = StoredWeights(checkpoint)
    settings = stored.settings
    bits, layout = settings.get("bits", settings.get("w_bit")), str(settings.get("version") or "gemm").lower()
    if bits != _BITS or layout != "gemm":
        raise UnsupportedCheckpoint(
            f"{checkpoint} is quantized by AWQ to {bits} bits for the kernel {layout}, which only gptqmodel reads",
            hint="Save it with 4 bits for the kernel GEMM, or register the plain model.",
        )
    modules = stored.modules(".qweight")
    scaled = [name for name in stored.modules(".scales") if name not in modules]
    if scaled:
        raise UnsupportedCheckpoint(
            f"{checkpoint} scales the activations {scaled[0]}, which a copy of its weights cannot hold",
            hint="Register the plain model.",
        )
    return [*stored.others(_SUFFIXES), *(stored.oriented(_matrix(stored, module)) for module in modules)]


def _matrix(stored: StoredWeights, module: str) -> PlainTensor:
    inputs, words = stored.load(f"{module}.qweight").shape
    dtype = stored.load(f"{module}.scales").dtype
    values = partial(_dequantize, stored, module)
    return PlainTensor(f"{module}.weight", (words * 8, inputs), dtype, values, bits=_BITS)


def _dequantize(stored: StoredWeights, module: str) -> torch.Tensor:
    scales = stored.load(f"{module}.scales")
    integers, zeros = (_outputs(stored.load(f"{module}.{part}")) for part in ("qweight", "qzeros"))
    group = integers.shape[1] // len(scales)
    weights = torch.empty(integers.shape, dtype=scales.dtype)
    for number, scale in enumerate(scales):
        columns = slice(number * group, (number + 1) * group)
        difference = integers[:, columns].to(torch.int16) - zeros[:, number, None].to(torch.int16)
        weights[:, columns] = difference * scale[:, None]
    return weights


def _outputs(words: torch.Tensor) -> torch.Tensor:
    """Return `(outputs, rows)` integers from `(rows, outputs / 8)` words."""
    packed = unpack(words.T.contiguous(), _BITS)
    return packed.reshape(-1, 8, packed.shape[1])[:, _PLACES].reshape(packed.shape)
