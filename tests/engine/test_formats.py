"""All kinds of checkpoints, built by transformers and peft, compared with a plain forward pass."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import DeltadexError
from tests import language_models, many_models
from tests.language_models import Bases
from tests.saved_checkpoints import local

TOLERANCE = 1e-4
LLAMA = "LlamaForCausalLM"

#: Warnings of peft about adapters that are built here on purpose.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        "Setting `save_embedding_layers` to `True`:UserWarning",
        "Specified to not (save|load) vera_A:UserWarning",
        "Unsupported layer type .*RMSNorm:UserWarning",
        "`lora_bias=True` was passed but the targeted layer",
        "Adapter 'default'.* invalid shape",
        "Model has `tie_word_embeddings=True`:UserWarning",
    )
]


def embedded(base: Path, finetune: Path) -> np.ndarray:
    """The engine's probe deltas of a finetune, `(n_probes, hidden_size)`."""
    engine = Base(BaseModel(local(base), digest="base", dtype="float32"))
    ((_, outcome),) = engine.embed([Finetune(local(finetune), "weights")])
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome.probe_deltas


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.linalg.norm(expected) > 0
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)


@pytest.mark.parametrize("name", language_models.MODELS)
def test_a_full_finetune_of_any_model_gets_its_plain_difference(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases(name)
    full = many_models.build_finetune(language_models.class_of(name), base, tmp_path / "full", strength=0.01)
    expected = language_models.read_plainly(name, full) - language_models.read_plainly(name, base)
    assert_equal(embedded(base, full), expected)


@pytest.mark.parametrize("name", language_models.ADAPTERS)
def test_an_adapter_of_any_type_gets_its_plain_difference(name: str, bases: Bases, tmp_path: Path) -> None:
    model = language_models.model_of(name)
    base = bases(model)
    adapter = language_models.build_adapter(name, base, tmp_path / "adapter")
    expected = language_models.read_plainly(model, base, adapter) - language_models.read_plainly(model, base)
    assert_equal(embedded(base, adapter), expected)


@pytest.mark.parametrize("name", [LLAMA, "tied Llama", "MixtralForCausalLM", "T5ForConditionalGeneration"])
def test_sharded_files_make_no_difference(name: str, bases: Bases, tmp_path: Path) -> None:
    base, kind = bases(name), language_models.class_of(name)
    single = many_models.build_finetune(kind, base, tmp_path / "single")
    sharded = many_models.build_finetune(kind, base, tmp_path / "sharded", max_shard_size="3KB")
    assert len(local(sharded).weight_files) > 5
    np.testing.assert_array_equal(embedded(base, sharded), embedded(base, single))


Tensors = Mapping[str, torch.Tensor]
#: Storage dtypes: index and tensor → the stored tensor.
STORED: Mapping[str, Callable[[int], torch.dtype]] = {
    "bfloat16": lambda _: torch.bfloat16,
    "float16": lambda _: torch.float16,
    "float64": lambda _: torch.float64,
    "float8": lambda _: torch.float8_e4m3fn,
    "three dtypes in one file": lambda number: (torch.bfloat16, torch.float16, torch.float32)[number % 3],
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("name", [LLAMA, "tied Llama", "MixtralForCausalLM"])
def test_any_dtype_computes_like_the_same_values_in_float32(
    stored: str, name: str, bases: Bases, tmp_path: Path
) -> None:
    base, kind = bases(name), language_models.class_of(name)
    full = many_models.build_finetune(kind, base, tmp_path / "full", strength=0.01)
    twin = many_models.build_finetune(kind, base, tmp_path / "twin", strength=0.01)
    tensors = load_file(full / "model.safetensors")
    cast = {key: tensor.to(STORED[stored](number)) for number, (key, tensor) in enumerate(sorted(tensors.items()))}
    save_file(cast, full / "model.safetensors")
    save_file({key: tensor.float() for key, tensor in cast.items()}, twin / "model.safetensors")
    np.testing.assert_array_equal(embedded(base, full), embedded(base, twin))


def test_float8_blocks_with_scales_compute_like_their_products(bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    full = many_models.build_finetune(LLAMA, base, tmp_path / "full", strength=0.01)
    quantization = {"quant_method": "fp8", "weight_block_size": [16, 16], "modules_to_not_convert": ["lm_head"]}
    language_models.quantize(full, quantization, language_models.in_float8_blocks)
    expected = language_models.read_plainly(LLAMA, full) - language_models.read_plainly(LLAMA, base)
    assert_equal(embedded(base, full), expected)


def test_four_bit_experts_compute_like_their_dequantized_values(bases: Bases, tmp_path: Path) -> None:
    name = "GptOssForCausalLM"
    base = bases(name)
    full = many_models.build_finetune(name, base, tmp_path / "full", strength=0.01)
    others = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": others}
    language_models.quantize(full, quantization, language_models.in_four_bits)
    expected = language_models.read_plainly(name, full) - language_models.read_plainly(name, base)
    assert_equal(embedded(base, full), expected)


@pytest.mark.parametrize("spaces", [1, 2, 3])
def test_a_header_that_leaves_its_tensors_misaligned_makes_no_difference(
    spaces: int, bases: Bases, tmp_path: Path
) -> None:
    base = bases(LLAMA)
    full = many_models.build_finetune(LLAMA, base, tmp_path / "full")
    expected = embedded(base, full)
    move_tensors(full / "model.safetensors", spaces)
    np.testing.assert_array_equal(embedded(base, full), expected)


def move_tensors(file: Path, by: int) -> None:
    """Add trailing spaces to the header, which leave it unaligned as safetensors before 0.3 did."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length])
    header = content[8 : 8 + length] + b" " * by
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
