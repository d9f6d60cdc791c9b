"""Weights in the formats of compressed-tensors (llm-compressor, vLLM), read by the package itself."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.conversion.plain_tensor import DTYPES, PlainTensor
from deltadex.engine.conversion.stored import StoredWeights
from deltadex.errors import UnsupportedCheckpoint

_PACKED, _SCALE, _SHAPE = ".weight_packed", ".weight_scale", ".weight_shape"
_PARTS = (
    _PACKED, _SCALE, _SHAPE, ".weight_zero_point", ".weight_global_scale", ".weight_g_idx", ".input_scale",
    ".input_zero_point", ".input_global_scale", ".output_scale", ".output_zero_point", ".k_scale", ".v_scale",
)  # fmt: skip


def plain_tensors(checkpoint: LocalCheckpoint) -> list[PlainTensor]:
    """Return the tensors of the plain copy; matrices get the dtype of their scales.

    Scales of activations and of the attention's cache are left out: only weights are compared.

    Raises
    ------
    UnsupportedCheckpoint
        The package does not know the format, or no group of the config names a module.
    """
    from compressed_tensors.quantization import QuantizationConfig

    stored = StoredWeights(checkpoint)
    config = QuantizationConfig.model_validate(dict(stored.settings))
    modules = stored.modules(_SCALE)
    quantized = {f"{module}.weight" for module in modules}
    return [
        *(one for one in stored.others(_PARTS) if one.name not in quantized),
        *(stored.oriented(_matrix(stored, module, config)) for module in modules),
    ]


def _matrix(stored: StoredWeights, module: str, config: Any) -> PlainTensor:
    scheme = _scheme(module, config, stored.checkpoint)
    layout, bits = scheme.format or config.format, scheme.weights.num_bits
    scale = stored.load(f"{module}{_SCALE}").dtype
    dtype = scale if scale in DTYPES and scale.is_floating_point else torch.bfloat16
    values = partial(_decompress, stored, module, scheme, str(getattr(layout, "value", layout)))
    return PlainTensor(f"{module}.weight", _shape(stored, module, bits), dtype, values, bits=bits)


def _scheme(module: str, config: Any, checkpoint: LocalCheckpoint) -> Any:
    """Return the first group whose targets name the module, or name a class: only linear layers are quantized."""
    for group in config.config_groups.values():
        for target in group.targets:
            pattern = target.removeprefix("re:")
            if re.match(pattern, module) if target != pattern else target == module or "." not in target:
                return group
    raise UnsupportedCheckpoint(
        f"{checkpoint} has no group in its quantization_config for {module}", hint="Quantize the model again."
    )


def _shape(stored: StoredWeights, module: str, bits: int) -> tuple[int, ...]:
    if f"{module}{_SHAPE}" in stored.tensors:
        return tuple(int(length) for length in stored.load(f"{module}{_SHAPE}").tolist())
    if f"{module}{_PACKED}" in stored.tensors:
        packed = stored.tensors[f"{module}{_PACKED}"]
        itemsize = stored.load(packed.name).itemsize
        return (*packed.shape[:-1], packed.shape[-1] * 8 * itemsize // bits)
    return stored.tensors[f"{module}.weight"].shape


def _decompress(stored: StoredWeights, module: str, scheme: Any, layout: str) -> torch.Tensor:
    from compressed_tensors.compressors import BaseCompressor

    prefix = f"{module}."
    parts = {
        name.removeprefix(prefix): stored.load(name).clone()
        for name in stored.tensors
        if name.startswith(prefix) and name.removeprefix(prefix).startswith("weight")
    }
    weights: torch.Tensor = BaseCompressor.get_value_from_registry(layout).decompress(parts, scheme)["weight"]
    return weights
