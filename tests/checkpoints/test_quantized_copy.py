"""A quantized model is known as the model that it was; another finetune of the same base, quantized or not, is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.merge_check import Imprint, imprint, merge_of
from deltadex.checkpoints.quantized_copy import quantized_copy
from tests import many_models, tiny_models
from tests.plain_copies import plain
from tests.quantized_models import with_awq, with_bitsandbytes, with_gguf, with_gptq
from tests.saved_checkpoints import LLAMA, local
from tests.tiny_models import ALL_LINEAR

#: Bits → builder of a quantized copy.
QUANTIZED: dict[str, tuple[float, Callable[[Path, Path], object]]] = {
    "gptq, 3 bits": (3, lambda model, to: with_gptq(model, to, bits=3)),
    "gptq, 4 bits": (4, lambda model, to: with_gptq(model, to, bits=4)),
    "gptq, 8 bits": (8, lambda model, to: with_gptq(model, to, bits=8)),
    "awq": (4, with_awq),
    "nf4": (4, lambda m, to: with_bitsandbytes(m, to, load_in_4bit=True, bnb_4bit_quant_type="nf4")),
    "int8": (8, lambda model, to: with_bitsandbytes(model, to, load_in_8bit=True)),
    "Q4_0": (4.5, lambda model, to: with_gguf(model, to, "Q4_0")),
    "Q8_0": (8.5, lambda model, to: with_gguf(model, to, "Q8_0")),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Integers of 3 bits fill words only where there are 32 outputs.
    config = tiny_models.llama_config(num_key_value_heads=4)
    return tiny_models.build_base(tmp_path_factory.mktemp("base"), config=config)


@pytest.fixture(scope="module")
def finetune(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_full_finetune(base, tmp_path_factory.mktemp("finetune") / "full", seed=1)


def read(checkpoint: LocalCheckpoint, base: Path) -> Imprint:
    found = imprint(checkpoint, local(base))
    assert found is not None
    return found


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_copy_is_the_same_model(name: str, base: Path, finetune: Path, tmp_path: Path) -> None:
    bits, build = QUANTIZED[name]
    build(finetune, tmp_path / "quantized")
    copy = read(plain(tmp_path / "quantized", tmp_path / "plain"), base)
    model = read(local(finetune), base)
    for found in (quantized_copy(copy, model), quantized_copy(model, copy)):
        assert found is not None
        assert found.bits == pytest.approx(bits)
        assert 0 < found.error < 8 / 2**bits
        assert f"quantized to {bits:.3g} bits" in str(found)
    assert merge_of(copy, model) is None


@pytest.mark.parametrize("name", QUANTIZED)
def test_another_finetune_is_not(name: str, base: Path, finetune: Path, tmp_path: Path) -> None:
    _, build = QUANTIZED[name]
    build(finetune, tmp_path / "quantized")
    copy = read(plain(tmp_path / "quantized", tmp_path / "plain"), base)
    for seed in (2, 3, 4):
        other = tiny_models.build_full_finetune(base, tmp_path / f"other-{seed}", seed=seed)
        assert quantized_copy(copy, read(local(other), base)) is None
    assert quantized_copy(copy, read(local(base), base)) is None


def test_the_merge_of_an_adapter_quantized_is_the_adapter(base: Path, tmp_path: Path) -> None:
    adapters = [
        tiny_models.build_adapter(base, tmp_path / f"adapter-{seed}", seed=seed, targets=ALL_LINEAR) for seed in (1, 2)
    ]
    model = tiny_models.attach_adapter(base, seed=1, targets=ALL_LINEAR).merge_and_unload()
    many_models.save(model, tmp_path / "merged")
    with_gptq(tmp_path / "merged", tmp_path / "quantized")
    copy = read(plain(tmp_path / "quantized", tmp_path / "plain"), base)
    mine, other = (read(local(adapter), base) for adapter in adapters)
    assert quantized_copy(copy, mine) is not None
    assert quantized_copy(copy, other) is None


def test_two_copies_of_one_model_are_one(base: Path, finetune: Path, tmp_path: Path) -> None:
    copies = []
    for bits in (4, 8):
        with_gptq(finetune, tmp_path / f"{bits}", bits=bits)
        copies.append(read(plain(tmp_path / f"{bits}", tmp_path / f"plain-{bits}"), base))
    found = quantized_copy(*copies)
    assert found is not None
    assert found.bits == 4


def test_a_step_that_the_rounding_hides_proves_nothing(base: Path, tmp_path: Path) -> None:
    model = tiny_models.build_full_finetune(base, tmp_path / "weak", seed=1, strength=1e-4)
    with_gptq(model, tmp_path / "quantized", bits=3)
    copy = read(plain(tmp_path / "quantized", tmp_path / "plain"), base)
    assert quantized_copy(copy, read(local(model), base)) is None


def test_models_that_were_not_quantized_are_not_compared(base: Path, finetune: Path, tmp_path: Path) -> None:
    half = many_models.load(LLAMA, finetune).to(torch.bfloat16)
    many_models.save(half, tmp_path / "half")
    assert quantized_copy(read(local(finetune), base), read(local(tmp_path / "half"), base)) is None
