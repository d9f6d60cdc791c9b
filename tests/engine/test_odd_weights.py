"""Weights that are quantized, missing or spoilt: the right number, or a refusal that says what is at fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BaseMismatch, BrokenCheckpoint, UnsupportedCheckpoint
from tests import tiny_models
from tests.language_models import Bases
from tests.saved_checkpoints import (
    EXPECTED_WARNINGS,
    LLAMA,
    adapter,
    copied,
    deltas,
    edit,
    embedding,
    full,
    local,
    rewrite,
)

pytestmark = EXPECTED_WARNINGS


@pytest.mark.parametrize(
    "left_over",
    [
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]}},
        {"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}},
    ],
    ids=["bitsandbytes", "fp8", "MLX"],
)
def test_a_quantization_left_over_in_the_config_does_not_act(
    left_over: dict[str, object], bases: Bases, tmp_path: Path
) -> None:
    base = bases(LLAMA)
    finetune = full(LLAMA, base, tmp_path / "full")
    expected = embedding(base, finetune)
    edit(finetune, **left_over)
    found = embedding(base, finetune)
    np.testing.assert_array_equal(found.probe_deltas, expected.probe_deltas)
    assert found.weights_digest == expected.weights_digest


def in_float8(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = tensor.abs().max() / 448
    return {name: (tensor / scale).to(torch.float8_e4m3fn), f"{name}_scale": scale.reshape(())}


def in_int8(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = tensor.abs().amax(1) / 127
    return {name: (tensor / scale[:, None]).round().to(torch.int8), f"{name.removesuffix('weight')}SCB": scale * 127}


def in_mlx(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    packed = torch.zeros(tensor.shape[0], tensor.shape[1] // 8, dtype=torch.uint32)
    module, rows = name.removesuffix("weight"), tensor.shape[0]
    return {name: packed, f"{module}scales": torch.ones(rows, 1), f"{module}biases": torch.zeros(rows, 1)}


@pytest.mark.parametrize("quantize", [in_float8, in_int8, in_mlx])
def test_quantized_weights_that_no_config_tells_of_are_refused(
    quantize: Callable[[str, torch.Tensor], dict[str, torch.Tensor]], bases: Bases, tmp_path: Path
) -> None:
    base = bases(LLAMA)
    finetune = full(LLAMA, base, tmp_path / "full")

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        plain = {name: tensor for name, tensor in tensors.items() if not name.endswith("proj.weight")}
        for name in tensors.keys() - plain.keys():
            plain |= quantize(name, tensors[name])
        return plain

    rewrite(finetune, change)
    with pytest.raises(UnsupportedCheckpoint, match="quantized") as caught:
        deltas(base, finetune)
    assert not isinstance(caught.value, BaseMismatch)
    with pytest.raises(UnsupportedCheckpoint, match="quantized"):
        deltas(finetune, base)


def test_empty_tensors_are_named(bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    for finetune in (full(LLAMA, base, tmp_path / "full"), adapter(LLAMA, base, tmp_path / "adapter")):
        rewrite(finetune, lambda tensors: {name: torch.empty(0) for name in tensors})
        with pytest.raises(BrokenCheckpoint, match="are empty, such as") as caught:
            deltas(base, finetune)
        assert "ZeRO-3" in caught.value.hint


def test_numbers_that_are_not_finite_are_named(bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)

    def spoilt(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: t * torch.nan if "layers.1.self_attn.v_proj" in name else t for name, t in tensors.items()}

    for finetune in (full(LLAMA, base, tmp_path / "full"), adapter(LLAMA, base, tmp_path / "adapter")):
        rewrite(finetune, spoilt)
        with pytest.raises(BrokenCheckpoint, match=r"layers\.1\.self_attn\.v_proj.*holds NaN"):
            deltas(base, finetune)


def test_an_adapter_that_contradicts_its_own_config_is_broken(bases: Bases, tmp_path: Path) -> None:
    finetune = adapter(LLAMA, bases(LLAMA), tmp_path / "adapter")
    edit(finetune, r=8)
    with pytest.raises(BrokenCheckpoint, match=r"own config.*size mismatch for .*q_proj\.lora_A"):
        deltas(bases(LLAMA), finetune)


def stacked(upper: Path, lower: Path) -> LocalCheckpoint:
    return replace(inspect(LocalFiles(upper)).fetch(), below=local(lower))


def test_an_adapter_is_not_stacked_on_a_state_of_itself(bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    first = tiny_models.build_adapter(base, tmp_path / "first", seed=1)
    other = tiny_models.build_adapter(base, tmp_path / "other", seed=2)
    later = copied(first, tmp_path / "later")
    rewrite(later, lambda tensors: {name: t + 0.3 * t.std() * torch.randn_like(t) for name, t in tensors.items()})
    check_fit(stacked(other, first), local(base))
    for upper in (first, later):
        with pytest.raises(UnsupportedCheckpoint, match="would count twice"):
            check_fit(stacked(upper, first), local(base))
