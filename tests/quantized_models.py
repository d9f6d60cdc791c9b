"""Quantized copies of tiny models, as the libraries write them or as their formats are documented.

What writes a format here shares no code with what reads it in `deltadex.engine.conversion`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def quantized_matrices(folder: Path) -> list[str]:
    """The linear layers that quantizers change: all but the head."""
    tensors = load_file(folder / "model.safetensors")
    return [name for name, tensor in tensors.items() if name.endswith("proj.weight") and tensor.ndim == 2]


def rewrite(folder: Path, to: Path, change: Callable[[str, torch.Tensor], Tensors], **settings: object) -> Path:
    """A copy of a model with its linear layers stored in another way, of which its config tells."""
    shutil.copytree(folder, to)
    tensors, stored = load_file(folder / "model.safetensors"), {}
    for name, tensor in tensors.items():
        is_matrix = name in quantized_matrices(folder)
        stored |= change(name.removesuffix(".weight"), tensor) if is_matrix else {name: tensor}
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, to / "model.safetensors")
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return to


def with_bitsandbytes(folder: Path, to: Path, **settings: object) -> Path:
    """A copy quantized and saved by transformers with bitsandbytes, and the values that the library gives back."""
    quantization = transformers.BitsAndBytesConfig(**settings)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization, device_map="cpu", dtype=torch.float32
    )
    model.save_pretrained(to)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(to)
    return to


def packed(integers: np.ndarray, bits: int) -> torch.Tensor:
    """Pack rows of integers into 32-bit words, bit by bit."""
    rows = integers.shape[0] * bits // 32
    stream = ((integers[:, None, :].astype(np.uint64) >> np.arange(bits)[:, None].astype(np.uint64)) & 1).reshape(
        rows, 32, -1
    )
    words = (stream << np.arange(32, dtype=np.uint64)[:, None]).sum(1).astype(np.uint32)
    return torch.from_numpy(words.view(np.int32))


def in_groups(tensor: torch.Tensor, bits: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Round `(outputs, inputs)` weights in groups of inputs: integers, float16 scales, zero points, per output."""
    weights, count = tensor.numpy().T, groups.max() + 1
    scales = np.empty((count, weights.shape[1]), np.float16)
    zeros = np.empty((count, weights.shape[1]), np.int64)
    integers = np.empty(weights.shape, np.int64)
    for group in range(count):
        rows = weights[groups == group]
        low, high = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0)
        scales[group] = np.maximum((high - low) / (2**bits - 1), 1e-4)
        zeros[group] = np.clip(np.round(-low / scales[group]), 0, 2**bits - 1)
        integers[groups == group] = np.clip(np.round(rows / scales[group]) + zeros[group], 0, 2**bits - 1)
    return integers, scales, zeros


def as_floats(integers: np.ndarray, scales: np.ndarray, zeros: np.ndarray, groups: np.ndarray) -> torch.Tensor:
    """The documented value: scale · (integer - zero point), one element at a time, in float16."""
    values = np.empty(integers.shape, np.float16)
    for row, group in enumerate(groups):
        for column in range(integers.shape[1]):
            difference = np.float16(integers[row, column] - zeros[group, column])
            values[row, column] = scales[group, column] * difference
    return torch.from_numpy(values.T.copy())


#: Name of a matrix → its values as documented.
Values = dict[str, torch.Tensor]


def with_gptq(
    folder: Path, to: Path, *, bits: int = 4, group: int = 16, act_order: bool = False, layout: str = "gptq"
) -> tuple[Path, Values]:
    """A copy in GPTQ's layout, rounded to the nearest."""
    values: Values = {}

    def change(module: str, tensor: torch.Tensor) -> Tensors:
        groups = np.arange(tensor.shape[1]) // group
        if act_order:
            groups = np.random.default_rng(0).permutation(groups)
        integers, scales, zeros = in_groups(tensor, bits, groups)
        values[f"{module}.weight"] = as_floats(integers, scales, zeros, groups)
        stored_zeros = (zeros - 1) % 2**bits if layout == "gptq" else zeros
        return {
            f"{module}.qweight": packed(integers, bits),
            f"{module}.qzeros": packed(stored_zeros.T, bits).T,
            f"{module}.scales": torch.from_numpy(scales),
            f"{module}.g_idx": torch.from_numpy(groups.astype(np.int32)),
        }

    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": False}
    return rewrite(folder, to, change, **settings, checkpoint_format=layout), values


def with_awq(folder: Path, to: Path, *, group: int = 16, **changes: object) -> tuple[Path, Values]:
    """A copy in the layout of AutoAWQ's GEMM kernel: eight outputs in a word, in the order that it documents."""
    values: Values = {}
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def words(integers: np.ndarray) -> torch.Tensor:
        eights = integers.reshape(integers.shape[0], -1, 8).astype(np.uint32)
        packed_words = np.zeros(eights.shape[:2], np.uint32)
        for place, output in enumerate(order):
            packed_words |= eights[:, :, output] << np.uint32(4 * place)
        return torch.from_numpy(packed_words.view(np.int32))

    def change(module: str, tensor: torch.Tensor) -> Tensors:
        groups = np.arange(tensor.shape[1]) // group
        integers, scales, zeros = in_groups(tensor, 4, groups)
        values[f"{module}.weight"] = as_floats(integers, scales, zeros, groups)
        parts = {"qweight": words(integers), "qzeros": words(zeros), "scales": torch.from_numpy(scales)}
        return {f"{module}.{name}": part for name, part in parts.items()}

    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return rewrite(folder, to, change, **{**settings, **changes}), values


#: Scheme → its format and the arguments of its weights.
COMPRESSED: Mapping[str, tuple[str, dict[str, object]]] = {
    "W4A16": ("pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16}),
    "W8A16": ("pack-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
    "W8A8": ("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
    "FP8": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
}


def with_compressed_tensors(folder: Path, to: Path, scheme: str) -> Path:
    """A copy rounded to the nearest, and packed by compressed-tensors."""
    layout, weights = COMPRESSED[scheme]
    group = {"targets": ["Linear"], "weights": {**weights, "symmetric": True}, "format": layout}
    quantization = QuantizationScheme.model_validate(group)
    compressor = BaseCompressor.get_value_from_registry(layout)
    largest = 448 if weights["type"] == "float" else 2 ** (int(str(weights["num_bits"])) - 1) - 1

    def change(module: str, tensor: torch.Tensor) -> Tensors:
        size = int(str(weights.get("group_size", tensor.shape[1])))
        scale = tensor.reshape(len(tensor), -1, size).abs().amax(2) / largest
        parts = compressor.compress({"weight": tensor, "weight_scale": scale}, quantization)
        return {f"{module}.{name}": part for name, part in parts.items() if part is not None}

    settings = {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": layout,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    return rewrite(folder, to, change, **settings)


def with_gguf(
    folder: Path, to: Path, quantization: str, *, tokenizer: bool = True, beside: tuple[str, ...] = ()
) -> Path:
    """A GGUF file of a tiny Llama, Qwen2 or Gemma2, with the names and the order that llama.cpp's converter writes."""
    config = transformers.AutoConfig.from_pretrained(folder)
    architecture = config.model_type
    to.mkdir(parents=True)
    writer = gguf.GGUFWriter(to / f"model-{quantization}.gguf", architecture)
    _write_metadata(writer, config)
    if tokenizer:
        _write_tokenizer(writer, folder)
    names = gguf.get_tensor_name_map(
        next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), config.num_hidden_layers
    )
    kind = gguf.GGMLQuantizationType[quantization]
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = _turned(name, tensor.float(), config).numpy()
        is_matrix = values.ndim == 2
        own = kind if is_matrix and values.shape[-1] % 32 == 0 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(values, own)
        module, _, part = name.rpartition(".")
        writer.add_tensor(f"{names.get_name(module)}.{part}", stored, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name in beside:
        shutil.copy(folder / name, to)
    return to


def _turned(name: str, tensor: torch.Tensor, config: transformers.PreTrainedConfig) -> torch.Tensor:
    if config.model_type.startswith("gemma") and name.endswith("norm.weight"):
        return tensor + 1
    if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        rows = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, tensor.shape[1])
        return rows.swapaxes(1, 2).reshape(tensor.shape)
    return tensor


def _write_metadata(writer: gguf.GGUFWriter, config: transformers.PreTrainedConfig) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if head := getattr(config, "head_dim", None):
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_rope_dimension_count(head)


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary: Mapping[str, int] = content["model"]["vocab"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary, key=lambda token: vocabulary[token]))
    writer.add_token_types([gguf.TokenType.NORMAL] * len(vocabulary))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
