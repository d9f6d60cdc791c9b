"""Quantized safetensors: the values that their library gives back, and the embedding of these values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deltadex.engine.conversion.packed_integers import unpack, words_per_period
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint
from tests import language_models, tiny_models
from tests.language_models import Bases
from tests.plain_copies import assert_close, plain, probe_deltas, stored
from tests.quantized_models import (
    COMPRESSED,
    packed,
    quantized_matrices,
    with_awq,
    with_bitsandbytes,
    with_compressed_tensors,
    with_gptq,
)
from tests.saved_checkpoints import LLAMA, edit, rewrite

FOUR_BITS = {"load_in_4bit": True}
BITSANDBYTES = {
    "nf4": {**FOUR_BITS, "bnb_4bit_quant_type": "nf4"},
    "fp4": {**FOUR_BITS, "bnb_4bit_quant_type": "fp4"},
    "nf4, twice": {**FOUR_BITS, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


def expected_deltas(base: Path, dequantized: Path) -> np.ndarray:
    return language_models.read_plainly(LLAMA, dequantized) - language_models.read_plainly(LLAMA, base)


def with_values(folder: Path, to: Path, values: dict[str, torch.Tensor]) -> Path:
    """A copy of a plain model with these matrices."""
    shutil.copytree(folder, to)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **{name: value.float() for name, value in values.items()}}, to / "model.safetensors")
    return to


@pytest.mark.parametrize("settings", BITSANDBYTES.values(), ids=BITSANDBYTES)
def test_bitsandbytes_gives_the_values_of_the_library(
    settings: dict[str, object], finetune: Path, bases: Bases, tmp_path: Path
) -> None:
    folder = with_bitsandbytes(finetune, tmp_path / "quantized", **settings)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32)
    dequantized = with_values(finetune, tmp_path / "dequantized", model.dequantize().state_dict())

    copy = plain(folder, tmp_path / "plain")
    assert copy.bits == (8 if settings.get("load_in_8bit") else 4)
    assert "quantization_config" not in copy.read_config()
    values = load_file(dequantized / "model.safetensors")
    for name, tensor in stored(copy).items():
        torch.testing.assert_close(tensor.float(), values[name])
    assert_close(probe_deltas(bases(LLAMA), copy), expected_deltas(bases(LLAMA), dequantized))


@pytest.mark.parametrize(
    "changes",
    [{"bits": 2}, {"bits": 3}, {"bits": 4}, {"bits": 8}, {"act_order": True}, {"layout": "gptq_v2"}, {"group": 32}],
    ids=str,
)
def test_gptq_gives_the_documented_values(
    changes: dict[str, object], finetune: Path, bases: Bases, tmp_path: Path
) -> None:
    base = bases(LLAMA)
    if changes.get("bits") == 3:  # integers of 3 bits fill words only where there are 32 outputs
        base = tiny_models.build_base(tmp_path / "base", config=tiny_models.llama_config(num_key_value_heads=4))
        finetune = tiny_models.build_full_finetune(base, tmp_path / "finetune", strength=0.01)
    folder, values = with_gptq(finetune, tmp_path / "quantized", **changes)
    copy = plain(folder, tmp_path / "plain")
    found = stored(copy)
    assert copy.bits == changes.get("bits", 4)
    assert len(values) == len(quantized_matrices(finetune)) > 10
    for name, expected in values.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)
    dequantized = with_values(finetune, tmp_path / "dequantized", values)
    assert_close(probe_deltas(base, copy), expected_deltas(base, dequantized))


def test_awq_gives_the_documented_values(finetune: Path, bases: Bases, tmp_path: Path) -> None:
    folder, values = with_awq(finetune, tmp_path / "quantized")
    copy = plain(folder, tmp_path / "plain")
    found = stored(copy)
    for name, expected in values.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)
    dequantized = with_values(finetune, tmp_path / "dequantized", values)
    assert_close(probe_deltas(bases(LLAMA), copy), expected_deltas(bases(LLAMA), dequantized))


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")
@pytest.mark.parametrize("scheme", COMPRESSED)
def test_compressed_tensors_gives_what_transformers_loads(
    scheme: str, finetune: Path, bases: Bases, tmp_path: Path
) -> None:
    folder = with_compressed_tensors(finetune, tmp_path / "quantized", scheme)
    copy = plain(folder, tmp_path / "plain")
    assert copy.bits == (4 if scheme == "W4A16" else 8)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=transformers.CompressedTensorsConfig(dequantize=True)
    )
    values = dict(model.state_dict())
    assert values.keys() <= stored(copy).keys()
    for name, tensor in stored(copy).items():
        torch.testing.assert_close(tensor.float(), values[name].float())
    dequantized = with_values(finetune, tmp_path / "dequantized", values)
    assert_close(probe_deltas(bases(LLAMA), copy), expected_deltas(bases(LLAMA), dequantized))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_integers_of_any_width_come_out_as_they_went_in(bits: int) -> None:
    integers = np.random.default_rng(bits).integers(2**bits, size=(96, 5))
    words = packed(integers, bits)
    assert len(words) % words_per_period(bits) == 0
    np.testing.assert_array_equal(unpack(words, bits).numpy(), integers)


@pytest.mark.parametrize(
    ("build", "changes", "reason"),
    [
        (with_gptq, {"checkpoint_format": "marlin"}, "gptqmodel"),
        (with_gptq, {"bits": 5}, "gptqmodel"),
        (with_awq, {"version": "gemv"}, "gptqmodel"),
    ],
)
def test_layouts_of_a_gpu_name_the_package_that_reads_them(
    build, changes: dict[str, object], reason: str, finetune: Path, tmp_path: Path
) -> None:
    folder, _ = build(finetune, tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    edit(folder, quantization_config={**config["quantization_config"], **changes})
    with pytest.raises(UnsupportedCheckpoint, match=reason):
        plain(folder, tmp_path / "plain")


@pytest.mark.parametrize("missing", ["scales", "qzeros"])
def test_a_missing_part_is_named(missing: str, finetune: Path, tmp_path: Path) -> None:
    folder, _ = with_gptq(finetune, tmp_path / "quantized")
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != f"model.layers.1.mlp.up_proj.{missing}"})
    with pytest.raises(BrokenCheckpoint, match=rf"lacks model\.layers\.1\.mlp\.up_proj\.{missing}"):
        plain(folder, tmp_path / "plain")


def test_a_group_that_does_not_exist_is_refused(finetune: Path, tmp_path: Path) -> None:
    folder, _ = with_gptq(finetune, tmp_path / "quantized")
    rewrite(folder, lambda tensors: {n: t + 1000 if n.endswith("g_idx") else t for n, t in tensors.items()})
    with pytest.raises(BrokenCheckpoint, match="g_idx"):
        plain(folder, tmp_path / "plain")
