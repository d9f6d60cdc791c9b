"""Ranks of the differences of really merged, really trained and made-up models from their bases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from deltadex.checkpoints.digest import identical_tensors
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.low_rank import LowRank, MatrixDifference, is_adaptable, low_rank, singular_values
from deltadex.checkpoints.merge_check import ROUNDINGS
from deltadex.downloads.files import LocalFiles
from tests import tiny_models

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def measured(finetune: Path, base: Path) -> LowRank | None:
    ours, theirs = local(finetune), local(base)
    return low_rank(ours, theirs, identical=identical_tensors(ours, theirs))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_models.llama_config(hidden_size=64, intermediate_size=128, head_dim=16)
    return tiny_models.build_base(tmp_path_factory.mktemp("base"), config=config, dtype=DTYPES[request.param])


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_adapter(base, tmp_path_factory.mktemp("adapter"), targets=tiny_models.ALL_LINEAR)


def merged(base: Path, adapter: Path, folder: Path, dtype: str, *, rounded: str = "before") -> Path:
    loaded = DTYPES[dtype] if rounded == "before" else torch.float32
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=loaded), adapter)
    model.merge_and_unload().to(DTYPES[dtype]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("rounded", ["before", "after"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_merge_in_any_dtype_has_the_rank_of_its_adapter(
    base: Path, adapter: Path, tmp_path: Path, dtype: str, rounded: str
) -> None:
    found = measured(merged(base, adapter, tmp_path, dtype, rounded=rounded), base)
    assert found is not None
    assert (found.rank, found.sampled, found.matrices) == (4, 8, 14)
    assert found.error < 1.5 * found.rounding + 1e-6 < 0.01
    itemsize = DTYPES[dtype].itemsize
    assert found.adapter_bytes == 4 * itemsize * sum(2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128) for _ in range(2))
    assert found.checkpoint_bytes == pytest.approx((tmp_path / "model.safetensors").stat().st_size, rel=0.02)


def trained(base: Path, folder: Path, *, only: str, dtype: torch.dtype) -> Path:
    """A full finetune of some parameters, by a few steps of AdamW."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(only in name)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        ids = torch.randint(tiny_models.VOCABULARY, (4, 32), generator=generator)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.to(dtype).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("only", ["_proj", "layers", "", "embed_tokens", "norm"])
def test_a_trained_full_finetune_is_no_adapter(base: Path, tmp_path: Path, only: str, dtype: torch.dtype) -> None:
    assert measured(trained(base, tmp_path, only=only, dtype=dtype), base) is None


def test_adapters_quantized_models_and_copies_are_not_measured(base: Path, adapter: Path, tmp_path: Path) -> None:
    whole = merged(base, adapter, tmp_path, "float32")
    assert measured(adapter, base) is None
    assert measured(base, base) is None
    ours, theirs = local(whole), local(base)
    for one, other in ((replace(ours, bits=4.5), theirs), (ours, replace(theirs, bits=4.5))):
        assert low_rank(one, other, identical=frozenset()) is None


def test_a_model_that_is_not_finite_is_not_measured(base: Path, adapter: Path, tmp_path: Path) -> None:
    whole = merged(base, adapter, tmp_path / "merged", "float32")
    for value in (np.nan, np.inf):
        model = tiny_models.load(whole)
        with torch.no_grad():
            for parameter in model.model.layers.parameters():
                if parameter.ndim == 2:
                    parameter.fill_(value)
        model.save_pretrained(tmp_path / str(value))
        assert measured(tmp_path / str(value), base) is None


@pytest.mark.parametrize("strength", [0.2, 0.5, 3.0])
@pytest.mark.parametrize("is_rounded_before", [True, False])
def test_the_rank_is_told_from_half_a_rounding_step_on_and_hidden_below(
    strength: float, is_rounded_before: bool
) -> None:
    """An update of this many rounding steps of bfloat16, beside weights of one magnitude."""
    random, step = np.random.default_rng(0), 2.0**-8
    base = random.uniform(1.0, 2.0, (256, 256)).astype(np.float32)
    base = ROUNDINGS["bfloat16"](base) if is_rounded_before else base
    factors = random.standard_normal((256, 6)), random.standard_normal((6, 256))
    update = (factors[0] @ factors[1] / np.sqrt(6) * strength * 2 * step).astype(np.float32)
    difference = MatrixDifference.of(ROUNDINGS["bfloat16"](base + update), base)
    is_clear = difference.energy >= 2.5 * difference.rounding
    assert is_clear == (strength >= 0.5)
    if is_clear:
        rank = difference.smallest_rank(singular_values(difference.values))
        assert rank is not None
        assert 3 <= rank <= 8


@given(st.integers(1, 12), st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_the_rank_of_an_exact_product_is_found(rank: int, rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))).astype(np.float32)
    found = MatrixDifference(values, 0.0).smallest_rank(singular_values(values))
    assert found is not None
    assert found <= min(rank, rows, columns)
    left = singular_values(values)[found:]
    assert np.linalg.norm(left) <= 0.0101 * np.linalg.norm(values)


def test_only_matrices_of_numbered_layers_are_adapted() -> None:
    assert is_adaptable("model.layers.0.self_attn.q_proj.weight", (8, 8))
    assert not is_adaptable("model.layers.0.self_attn.q_proj.bias", (8,))
    assert not is_adaptable("model.layers.0.mlp.experts.3.w1.weight", (8, 8))
    assert not is_adaptable("model.embed_tokens.weight", (8, 8))
