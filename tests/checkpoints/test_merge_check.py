"""Detection of merges, and of models that are close to a merge but are not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.merge_check import Imprint, Merge, _bfloat16, imprint, merge_of
from deltadex.downloads.files import LocalFiles
from tests import tiny_models

ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def read(checkpoint: Path, base: Path) -> Imprint:
    found = imprint(local(checkpoint), local(base))
    assert found is not None
    return found


def merged(base: Path, adapter: Path, folder: Path, dtype: str = "float32", *, rounded: str = "before") -> Path:
    """The merge by peft, with the base rounded before the sum or the sum rounded after it."""
    loaded = DTYPES[dtype] if rounded == "before" else torch.float32
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=loaded), adapter)
    model.merge_and_unload().to(DTYPES[dtype]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("base"))


def build(base: Path, folder: Path, **values: Any) -> Path:
    return tiny_models.build_adapter(base, folder, **{"targets": ALL_PROJECTIONS, **values})


@pytest.mark.parametrize("rounded", ["before", "after"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_merge_in_any_dtype_is_known(base: Path, tmp_path: Path, dtype: str, rounded: str) -> None:
    adapter = build(base, tmp_path / "adapter")
    whole = merged(base, adapter, tmp_path / "merged", dtype, rounded=rounded)
    one, other = read(adapter, base), read(whole, base)
    found = merge_of(one, other)
    assert found is not None
    assert found == merge_of(other, one)
    assert (found.dtype, found.equal >= 0.998, found.moved > 400) == (dtype, True, True)


@pytest.mark.parametrize("values", [{"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}], ids=str)
def test_the_scaling_is_the_adapters_own(base: Path, tmp_path: Path, values: dict[str, object]) -> None:
    adapter = build(base, tmp_path / "adapter", **values)
    assert merge_of(read(adapter, base), read(merged(base, adapter, tmp_path / "merged"), base))


def test_transposed_matrices_are_handled(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "gpt2", config=tiny_models.gpt2_config())
    targets = ("c_attn", "c_proj", "c_fc")
    adapter = build(base, tmp_path / "adapter", targets=targets, fan_in_fan_out=True)
    assert merge_of(read(adapter, base), read(merged(base, adapter, tmp_path / "merged"), base))


@pytest.mark.parametrize("targets", [("v_proj",), ALL_PROJECTIONS], ids=["v_proj", "all"])
def test_an_old_adapter_that_calls_plain_matrices_transposed_is_read_as_peft_does(
    base: Path, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    """peft 0.2 stored `fan_in_fan_out: true` for linear layers, and corrects it as it loads them."""
    adapter = build(base, tmp_path / "adapter", targets=targets)
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "fan_in_fan_out": True}))
    with pytest.warns(UserWarning, match="fan_in_fan_out"):
        whole = merged(base, adapter, tmp_path / "merged")
    assert (merge_of(read(adapter, base), read(whole, base)) is not None) == (targets == ALL_PROJECTIONS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_merge_trained_further_by_a_thousandth_is_not_a_merge(base: Path, tmp_path: Path, dtype: str) -> None:
    adapter = build(base, tmp_path / "adapter")
    later = build(base, tmp_path / "later")
    tensors = load_file(later / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: tensor + 0.001 * float(tensor.std()) * torch.randn(tensor.shape, generator=generator)
        for name, tensor in tensors.items()
    }
    save_file(moved, later / "adapter_model.safetensors", metadata={"format": "pt"})
    whole = read(merged(base, later, tmp_path / "merged", dtype), base)
    assert merge_of(read(later, base), whole)
    assert merge_of(read(adapter, base), whole) is None


def test_reseeds_full_finetunes_and_two_of_one_kind_are_not_merges(base: Path, tmp_path: Path) -> None:
    adapter, reseeded = (build(base, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    whole = merged(base, adapter, tmp_path / "merged")
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    assert merge_of(read(reseeded, base), read(whole, base)) is None
    assert merge_of(read(adapter, base), read(full, base)) is None
    assert merge_of(read(adapter, base), read(adapter, base)) is None
    assert merge_of(read(whole, base), read(whole, base)) is None
    assert merge_of(read(adapter, base), read(base, base)) is None


def test_a_merge_with_any_other_change_is_not_a_merge(base: Path, tmp_path: Path) -> None:
    adapter = build(base, tmp_path / "adapter")
    whole = merged(base, adapter, tmp_path / "merged")
    file = whole / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] += 0.01
    save_file(tensors, file, metadata={"format": "pt"})
    assert merge_of(read(adapter, base), read(whole, base)) is None


@pytest.mark.parametrize(
    "values",
    [
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"bias": "lora_only"},
        {"alpha_pattern": {"q_proj": 3}},
        {"targets": ("q_proj", "embed_tokens")},
        {"vocabulary": 300},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_undecidable_cases_have_no_imprint(base: Path, tmp_path: Path, values: dict[str, object]) -> None:
    assert imprint(local(build(base, tmp_path / "adapter", **values)), local(base)) is None


def test_an_update_lost_in_rounding_is_undecided(base: Path, tmp_path: Path) -> None:
    adapter = build(base, tmp_path / "adapter", strength=1e-6)
    assert merge_of(read(adapter, base), read(merged(base, adapter, tmp_path / "merged", "bfloat16"), base)) is None


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1))
def test_bfloat16_rounds_as_torch_does(values: list[float]) -> None:
    numbers = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(_bfloat16(numbers), torch.from_numpy(numbers).bfloat16().float().numpy())


def test_the_evidence_counts_the_weights_that_equal_the_merge() -> None:
    random = np.random.default_rng(0)
    base, update = (random.normal(size=1000).astype(np.float32) for _ in range(2))
    assert merge_of(Imprint(base, update), Imprint(base + update, None)) == Merge("float32", 1.0, 1000)
