"""Methods of quantization: which one a model has, and what the unsupported ones require."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltadex.checkpoints.architectures import sections
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.errors import UnsupportedCheckpoint

#: transformers dequantizes these on any CPU: `get_load_operations` of their quantizers needs no extra package.
_DEQUANTIZABLE = ("fp8", "mxfp8", "mxfp4")

#: Requirements of transformers 5.23 for reading weights of methods that `deltadex.engine.conversion` does not convert.
_REQUIREMENTS = {
    "torchao": "the package torchao",
    "hqq": "the package hqq and a GPU",
    "quanto": "the package optimum-quanto",
    "quark": "the package quark",
    "auto-round": "the package auto-round",
    "aqlm": "the package aqlm",
    "sinq": "the package sinq",
    "fouroversix": "the package fouroversix",
    "eetq": "a GPU and the package kernels",
    "fbgemm_fp8": "a GPU and the package fbgemm-gpu",
    "higgs": "a GPU and the package flute-kernel",
    "spqr": "a GPU and the package spqr_quant",
    "vptq": "a GPU and the package vptq",
    "fp_quant": "a GPU",
    "nvfp4": "a release that can load such checkpoints",
    "bitnet": "layers that round activations too",
    "metal": "an Apple GPU",
    "MLX": "a release that can load such checkpoints",
}


#: Dtypes of weights that are no plain numbers, and the names of integer tensors that no model multiplies with.
_PACKED_DTYPES = ("F8_", "F6_", "F4", "I8", "U8", "I16", "U16", "I32", "U32")
_NO_WEIGHTS = (".bias", ".masked_bias", "position_ids", "token_type_ids")


def packed_weights(tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Return the names of the matrices that hold quantized weights, judged by dtype."""
    return [
        name
        for name, tensor in tensors.items()
        if len(tensor.shape) >= 2 and tensor.dtype.startswith(_PACKED_DTYPES) and not name.endswith(_NO_WEIGHTS)
    ]


def named_method(config: Mapping[str, Any]) -> str | None:
    """Return the method that a config names; None if there is none.

    It acts only if weights are packed: a config whose weights are plain floats keeps what is left over from a merge.
    """
    named = [fields for section in sections(config) if (fields := quantization_of(section))]
    return _method(named[0]) if named else None


def check_quantization(config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], where: object) -> None:
    """Check that tensors and config agree, and that quantized weights can be read as they are.

    Raises
    ------
    UnsupportedCheckpoint
        The weights are quantized by a method that transformers cannot undo here, or by one that no config names.
    """
    method, packed = named_method(config), packed_weights(tensors)
    if not packed or method in _DEQUANTIZABLE:
        return
    requirement = _REQUIREMENTS.get(method or "")
    said = method or "a method that its config.json does not name"
    raise UnsupportedCheckpoint(
        f"{where} has weights quantized by {said} ({packed[0]} holds {tensors[packed[0]].dtype})"
        + (f": transformers reads them only with {requirement}" if requirement else ""),
        hint="Register the unquantized model or the adapter. "
        "For a quantized base, map its name to the unquantized one in DELTADEX_BASES.",
    )


def quantization_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the quantization that a config or a nested config describes; MLX has a name of its own for it."""
    fields = config.get("quantization_config") or config.get("quantization")
    return fields if isinstance(fields, Mapping) else {}


def _method(fields: Mapping[str, Any]) -> str:
    if fields.get("load_in_4bit") or fields.get("load_in_8bit"):
        return "bitsandbytes"
    if "quant_method" not in fields and {"group_size", "bits"} <= fields.keys():
        return "MLX"
    return str(fields.get("quant_method") or "an unnamed method")
