"""The engine against a plain re-implementation of the published algorithm, and against bad checkpoints."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.probes import CONTENT_PROBES
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import BaseMismatch, BrokenCheckpoint, DeltadexError, EmbeddingError, UnsupportedCheckpoint
from deltadex.types import Embedding
from tests import language_models, tiny_models

# Written here again, word by word from the paper, so that a slip in `probes.py` shows.
SENTENCES = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. Generate a response that meets the specified request.",
    "You are given an instruction and input. Write a response that completes the task as requested.",
)
TEMPLATE = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"


@pytest.fixture(autouse=True, scope="module")
def _two_threads_at_most() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


def last_token(states: torch.Tensor) -> torch.Tensor:
    return states[-1]


def mean_over_tokens(states: torch.Tensor) -> torch.Tensor:
    return states.mean(dim=0)


def published(
    base: Path,
    finetune: Path,
    *,
    probes: Sequence[str] = tuple(sentence + TEMPLATE for sentence in SENTENCES),
    readout: Callable[[torch.Tensor], torch.Tensor] = last_token,
) -> np.ndarray:
    """Delta Activations as defined in arXiv 2509.04442, without Deltadex's code."""
    tokenizer = AutoTokenizer.from_pretrained(base)

    def last_states(model: torch.nn.Module) -> torch.Tensor:
        states = []
        for probe in probes:
            inputs = tokenizer(probe, return_tensors="pt", truncation=True, max_length=256)
            with torch.no_grad():
                output = model.eval()(**inputs, output_hidden_states=True)
            states.append(readout(output.hidden_states[-1][0]))
        return torch.stack(states)

    def load(folder: Path) -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    is_adapter = (finetune / "adapter_config.json").exists()
    finetuned = PeftModel.from_pretrained(load(base), finetune) if is_adapter else load(finetune)
    delta = (last_states(finetuned) - last_states(load(base))).mean(dim=0)
    return delta.numpy()


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def ours(base: Path, finetune: Path, *, method: str = "published") -> Embedding:
    check_fit(local(finetune), local(base))
    engine = Base(BaseModel(local(base), "base", "float32", method=method))
    ((_, outcome),) = engine.embed([Finetune(local(finetune), "weights")])
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    cosine = found @ expected / (np.linalg.norm(found) * np.linalg.norm(expected))
    assert cosine >= 0.9999
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


CONFIGS = {
    "llama": tiny_models.llama_config(),
    "tied": tiny_models.llama_config(tie_word_embeddings=True),
    "qwen2": tiny_models.qwen2_config(),
    "gemma2": tiny_models.gemma2_config(),
    "gpt2": tiny_models.gpt2_config(),
}


@pytest.fixture(scope="module", params=CONFIGS)
def any_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp(request.param) / "base", config=CONFIGS[request.param])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


def test_an_adapter_gets_the_published_embedding(any_base: Path, tmp_path: Path) -> None:
    lora = {"targets": tiny_models.ALL_LINEAR}
    if any_base.parent.name.startswith("gpt2"):
        lora = {"targets": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    adapter = tiny_models.build_adapter(any_base, tmp_path / "adapter", **lora)
    assert_equal(ours(any_base, adapter).vector, published(any_base, adapter))


def test_by_content_the_mean_over_the_tokens_of_each_prompt_is_read(any_base: Path, tmp_path: Path) -> None:
    instruction = SENTENCES[0] + "\n\n### Instruction:\n{}\n\n### Response:"
    beginnings = ("The committee decided that", "In the beginning of spring", "def total(prices):")
    probes = [instruction.format(text) for text in (*beginnings, "The recipe calls for two", "SELECT name FROM")]
    full = tiny_models.build_full_finetune(any_base, tmp_path / "full")
    expected = published(any_base, full, probes=probes, readout=mean_over_tokens)
    found = ours(any_base, full, method="content")
    assert_equal(found.vector, expected)
    assert found.recipe.method.readout == "mean_token/final_norm"
    assert found.recipe.digest != ours(any_base, full).recipe.digest


def test_a_prompt_adapter_is_read_by_content_without_its_own_tokens(base: Path, tmp_path: Path) -> None:
    adapter = language_models.build_adapter("prompt", base, tmp_path / "prompt")
    expected = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    deltas = []
    for probe in CONTENT_PROBES.probes:
        ids = tokenizer(probe, return_tensors="pt")
        with torch.no_grad():
            ours_only = expected(**ids, output_hidden_states=True).hidden_states[-1][0, -ids["input_ids"].shape[1] :]
            deltas.append((ours_only - plain(**ids, output_hidden_states=True).hidden_states[-1][0]).mean(dim=0))
    assert_equal(ours(base, adapter, method="content").vector, torch.stack(deltas).mean(dim=0).numpy())


def test_a_full_finetune_gets_the_published_embedding(any_base: Path, tmp_path: Path) -> None:
    full = tiny_models.build_full_finetune(any_base, tmp_path / "full", max_shard_size="30KB")
    assert_equal(ours(any_base, full).vector, published(any_base, full))


@pytest.mark.parametrize(
    "adapter",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"targets": ["q_proj", "embed_tokens", "lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"layers_to_transform": [1]},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    ],
    ids=lambda adapter: next(iter(adapter)),
)
def test_every_flavour_of_lora_gets_the_published_embedding(base: Path, tmp_path: Path, adapter: dict) -> None:
    folder = tiny_models.build_adapter(base, tmp_path / "adapter", **adapter)
    assert_equal(ours(base, folder).vector, published(base, folder))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_precision_are_computed_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny_models.build_base(tmp_path / "base", dtype=dtype)
    adapter = tiny_models.build_adapter(base, tmp_path / "adapter")
    assert_equal(ours(base, adapter).vector, published(base, adapter))


def test_the_base_is_the_same_for_every_adapter_whatever_came_before(base: Path, tmp_path: Path) -> None:
    """The authors' scripts stack adapters on one base: a q,v adapter after one of six modules is off by 30 %."""
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    wide = tiny_models.build_adapter(base, tmp_path / "wide", targets=tiny_models.ALL_LINEAR, seed=1)
    narrow = tiny_models.build_adapter(base, tmp_path / "narrow", targets=tiny_models.QUERY_VALUE, seed=2)
    alone, wide_alone = ours(base, narrow), ours(base, wide)
    np.testing.assert_array_equal(ours(base, narrow).probe_deltas, alone.probe_deltas)
    np.testing.assert_array_equal(ours(base, wide).probe_deltas, wide_alone.probe_deltas)
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before


def test_an_exact_copy_of_the_base_changes_nothing(base: Path, tmp_path: Path) -> None:
    copy = ours(base, Path(shutil.copytree(base, tmp_path / "copy")))
    assert not copy.probe_deltas.any()
    assert copy.strength == copy.probe_agreement == 0


def test_the_embedding_carries_its_recipe(base: Path, tmp_path: Path) -> None:
    embedding = ours(base, tiny_models.build_adapter(base, tmp_path / "adapter"))
    assert embedding.probe_deltas.shape == (5, tiny_models.HIDDEN_SIZE)
    assert embedding.probe_deltas.dtype == np.float32
    assert (len(embedding.recipe.base_digest), embedding.recipe.dimension) == (64, tiny_models.HIDDEN_SIZE)
    assert embedding.weights_digest == "weights"
    assert embedding.base_norm > 0


@pytest.mark.parametrize("vocabulary", [tiny_models.VOCABULARY + 8, tiny_models.VOCABULARY + 1])
def test_a_full_finetune_with_a_resized_vocabulary_gets_the_published_embedding(
    base: Path, tmp_path: Path, vocabulary: int
) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full", vocabulary=vocabulary)
    assert_equal(ours(base, full).vector, published(base, full))


@pytest.mark.parametrize("saved", [["embed_tokens", "lm_head"], None])
def test_an_adapter_with_a_resized_vocabulary_is_embedded(base: Path, tmp_path: Path, saved: list | None) -> None:
    """Resizing adds rows that no probe uses, so the embedding equals that of the same adapter without them."""
    plain = tiny_models.build_adapter(base, tmp_path / "plain", modules_to_save=saved)
    resized = tiny_models.build_adapter(
        base, tmp_path / "resized", modules_to_save=saved, vocabulary=tiny_models.VOCABULARY + 8
    )
    tensors, wanted = load_file(resized / "adapter_model.safetensors"), load_file(plain / "adapter_model.safetensors")
    for name, tensor in wanted.items():
        assert tensors[name].shape[1:] == tensor.shape[1:]
        tensors[name][: len(tensor)] = tensor
    save_file(tensors, resized / "adapter_model.safetensors")
    assert_equal(ours(base, resized).vector, ours(base, plain).vector)


def test_weights_that_are_not_finite_are_reported(base: Path, tmp_path: Path) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    tensors = load_file(full / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, full / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbeddingError, match="not finite") as caught:
        ours(base, full)
    assert caught.value.hint


@pytest.mark.parametrize("lost", ["model.norm.weight", "model.layers.1.input_layernorm.weight"])
def test_a_missing_tensor_is_never_filled_with_random_numbers(base: Path, tmp_path: Path, lost: str) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    tensors = load_file(full / "model.safetensors")
    del tensors[lost]
    save_file(tensors, full / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenCheckpoint, match=lost):
        ours(base, full)


def test_a_config_that_does_not_fit_the_tensors_is_broken(base: Path, tmp_path: Path) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    config = json.loads((full / "config.json").read_text())
    (full / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(BrokenCheckpoint, match="do not fit its config"):
        ours(base, full)


def test_an_adapter_of_a_deeper_base_is_a_mismatch(base: Path, tmp_path: Path) -> None:
    deeper = tiny_models.build_base(tmp_path / "deeper", config=tiny_models.llama_config(num_hidden_layers=3))
    adapter = tiny_models.build_adapter(deeper, tmp_path / "adapter")
    with pytest.raises(
        BaseMismatch, match=r"^The adapter \S+ has \d+ tensors that have no place in its base.*layers\.2"
    ):
        ours(base, adapter)


def test_an_adapter_of_a_shallower_base_is_a_mismatch(base: Path, tmp_path: Path) -> None:
    deeper = tiny_models.build_base(tmp_path / "deeper", config=tiny_models.llama_config(num_hidden_layers=3))
    adapter = tiny_models.build_adapter(base, tmp_path / "adapter")
    with pytest.raises(
        BaseMismatch, match=r"^The adapter \S+ has \d+ tensors that have no place in its base.*layers\.2"
    ):
        ours(deeper, adapter)


def test_an_adapter_without_its_declared_modules_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = tiny_models.build_adapter(base, tmp_path / "adapter", modules_to_save=["lm_head"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({n: t for n, t in tensors.items() if "lm_head" not in n}, adapter / "adapter_model.safetensors")
    with pytest.raises(BaseMismatch, match="cannot be attached"):
        ours(base, adapter)


def test_an_architecture_that_transformers_does_not_know_is_unsupported(base: Path, tmp_path: Path) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    config = json.loads((full / "config.json").read_text())
    (full / "config.json").write_text(json.dumps({**config, "model_type": "tomorrow"}))
    with pytest.raises(UnsupportedCheckpoint, match="tomorrow") as caught:
        ours(base, full)
    assert caught.value.hint


def test_a_base_without_a_tokenizer_is_broken(base: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(base, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*")))
    with pytest.raises(BrokenCheckpoint, match="no tokenizer"):
        ours(bare, tiny_models.build_adapter(base, tmp_path / "adapter"))


def test_a_vocabulary_too_small_for_the_probes_is_a_mismatch(base: Path, tmp_path: Path) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full", vocabulary=40)
    with pytest.raises(BaseMismatch, match="knows 40 tokens"):
        ours(base, full)
