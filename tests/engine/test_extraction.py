"""Adapters extracted from full models: their effect, their form, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from deltadex.checkpoints.digest import identical_tensors, weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.low_rank import LowRank
from deltadex.downloads.files import LocalFiles
from deltadex.engine.adapter_requests import AdapterComparison, Extraction
from deltadex.engine.agreement import greedy_agreement
from deltadex.engine.extraction import extract
from deltadex.engine.messages import ignore_progress
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import UnsupportedCheckpoint
from tests import tiny_models

LINEAR = tiny_models.ALL_LINEAR
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def merged(base: Path, folder: Path, dtype: torch.dtype = torch.float32, **adapter: Any) -> Path:
    """A full model: the base with an adapter, merged by peft."""
    tiny_models.build_adapter(base, folder / "adapter", **{"strength": 0.2, **adapter})
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), folder / "adapter")
    model.merge_and_unload().save_pretrained(folder / "merged")
    return folder / "merged"


def extracted(finetune: Path, base: Path, output: Path, *, rank: int | None = None) -> LowRank:
    ours, theirs = local(finetune), local(base)
    described = Finetune(ours, weights_digest(ours), identical_tensors(ours, theirs))
    output.mkdir()
    request = Extraction(described, BaseModel(theirs, weights_digest(theirs), "float32"), "acme/base", output, rank)
    return extract(request, on_progress=ignore_progress)


def agreement(finetune: Path, adapter: Path, base: Path) -> float | None:
    return greedy_agreement(
        AdapterComparison(local(finetune), local(adapter), BaseModel(local(base), "base", "float32"), tokens=8)
    )


def weights_of(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    whole = PeftModel.from_pretrained(tiny_models.load(base), adapter).merge_and_unload()
    return dict(whole.state_dict())


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return DTYPES[request.param]


@pytest.fixture(scope="module")
def base(dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("base"), dtype=dtype)


@pytest.fixture(scope="module")
def whole(base: Path, dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return merged(base, tmp_path_factory.mktemp("whole"), dtype, targets=LINEAR)


def test_the_adapter_gives_the_merge_back_in_weights_and_next_tokens(
    base: Path, whole: Path, dtype: torch.dtype, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    found = extracted(whole, base, adapter)
    assert (found.rank, found.sampled, found.matrices) == (4, 14, 14)
    assert found.error < 0.01
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert {one.dtype for one in tensors.values()} == {dtype}
    assert found.adapter_bytes == sum(one.nbytes for one in tensors.values()) < found.checkpoint_bytes
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    assert sorted(config["target_modules"]) == sorted(LINEAR)
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 4, "acme/base")
    given_back, wanted = weights_of(base, adapter), tiny_models.load(whole).state_dict()
    tolerance = 1e-5 if dtype is torch.float32 else 0.02
    assert all(torch.allclose(given_back[name], wanted[name], atol=tolerance) for name in wanted)
    agreed = agreement(whole, adapter, base)
    assert agreed is not None
    assert agreed >= (1.0 if dtype is torch.float32 else 0.8)


def test_another_adapter_does_not_agree(base: Path, whole: Path, tmp_path: Path) -> None:
    other = tiny_models.build_adapter(base, tmp_path / "other", seed=5, targets=LINEAR, strength=0.2)
    agreed = agreement(whole, other, base)
    assert agreed is not None
    assert agreed < 0.7


def test_a_part_of_the_layers_is_named_in_full_and_smaller_ranks_are_padded(
    base: Path, dtype: torch.dtype, tmp_path: Path
) -> None:
    whole = merged(base, tmp_path, dtype, targets=LINEAR, layers_to_transform=[1], rank_pattern={"q_proj": 2})
    found = extracted(whole, base, tmp_path / "extracted")
    config = json.loads((tmp_path / "extracted" / "adapter_config.json").read_bytes())
    assert (found.rank, found.matrices) == (4, 7)
    assert "model.layers.1.self_attn.q_proj" in config["target_modules"]
    tensors = load_file(tmp_path / "extracted" / "adapter_model.safetensors")
    up = tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"]
    assert up.shape == (32, 4)
    assert not up[:, 2:].any()
    assert up[:, :2].any()


def test_transposed_matrices_are_handled(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "gpt2", config=tiny_models.gpt2_config())
    whole = merged(base, tmp_path / "models", targets=("c_attn", "c_proj", "c_fc"), fan_in_fan_out=True)
    extracted(whole, base, tmp_path / "extracted")
    given_back, wanted = weights_of(base, tmp_path / "extracted"), tiny_models.load(whole).state_dict()
    assert all(torch.allclose(given_back[name], wanted[name], atol=1e-5) for name in wanted)


def test_a_given_rank_is_written_whatever_its_error(base: Path, whole: Path, tmp_path: Path) -> None:
    errors = [extracted(whole, base, tmp_path / str(rank), rank=rank).error for rank in (1, 2, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1 > 0.01 > errors[2]


def test_what_no_adapter_can_hold_is_refused_with_the_reason(base: Path, tmp_path: Path) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    with pytest.raises(UnsupportedCheckpoint, match="it changes"):
        extracted(full, base, tmp_path / "of full", rank=4)
    with pytest.raises(UnsupportedCheckpoint, match="has the weights of its base"):
        extracted(base, base, tmp_path / "of base")


def test_a_difference_of_high_rank_is_refused_with_the_rank_that_it_needs(base: Path, tmp_path: Path) -> None:
    model = tiny_models.load(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_proj" in name:
                parameter.add_(torch.from_numpy(np.random.default_rng(0).standard_normal(parameter.shape)))
    model.save_pretrained(tmp_path / "full")
    with pytest.raises(UnsupportedCheckpoint, match=r"needs rank (1|2|3)\d of (16|32)") as caught:
        extracted(tmp_path / "full", base, tmp_path / "extracted")
    assert "--rank" in caught.value.hint
    assert extracted(tmp_path / "full", base, tmp_path / "anyway", rank=8).error > 0.1


def test_a_difference_that_rounding_hides_is_refused(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base", dtype=torch.bfloat16)
    whole = merged(base, tmp_path / "models", torch.bfloat16, strength=1e-4)
    with pytest.raises(UnsupportedCheckpoint, match="little more than rounding"):
        extracted(whole, base, tmp_path / "extracted")
