"""What acts on a model beside its weights, and unusual architectures: the number of a plain reading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from deltadex.checkpoints.inspect import Kind
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel
from deltadex.errors import UnsupportedCheckpoint
from tests import many_models, tiny_models
from tests.engine.test_formats import assert_equal
from tests.language_models import Bases, read_plainly
from tests.saved_checkpoints import (
    BERT,
    EXPECTED_WARNINGS,
    IDS,
    LLAMA,
    MIXTRAL,
    T5,
    adapter,
    built,
    copied,
    deltas,
    edit,
    embedding,
    full,
    local,
    rewrite,
)

pytestmark = EXPECTED_WARNINGS


def test_positions_that_the_library_computes_are_computed(tmp_path: Path) -> None:
    config = transformers.MarianConfig(
        **IDS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=512, decoder_start_token_id=1,
    )  # fmt: skip
    base = built("MarianMTModel", config, tmp_path / "base")
    states = tmp_path / "states"
    for finetune in (full("MarianMTModel", base, tmp_path / "full"), adapter("MarianMTModel", base, tmp_path / "lora")):
        if local(finetune).kind is Kind.FULL:
            expected = read_plainly("MarianMTModel", finetune)
        else:
            expected = read_plainly("MarianMTModel", base, finetune)
        found = embedding(base, finetune, states=states).probe_deltas
        assert_equal(found, expected - read_plainly("MarianMTModel", base))


def test_rslora_of_single_experts_keeps_its_scale(bases: Bases, tmp_path: Path) -> None:
    """peft 0.21.2 fuses w1 and w3 into one adapter of twice the rank and alpha, which changes alpha / √r."""
    base = bases(MIXTRAL)
    weights = load_file(base / "model.safetensors")
    experts = [name.removesuffix(".weight") for name in weights if ".experts." in name]
    generator = torch.Generator().manual_seed(5)
    added = {}
    for name in experts:
        outputs, inputs = weights[f"{name}.weight"].shape
        added[f"base_model.model.{name}.lora_A.weight"] = torch.randn(4, inputs, generator=generator) * 0.1
        added[f"base_model.model.{name}.lora_B.weight"] = torch.randn(outputs, 4, generator=generator) * 0.1
    (tmp_path / "adapter").mkdir()
    save_file(added, tmp_path / "adapter/adapter_model.safetensors", metadata={"format": "pt"})
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "use_rslora": True}
    settings |= {"target_modules": ["w1", "w2", "w3"], "bias": "none"}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(settings))
    merged = copied(base, tmp_path / "merged")
    rewrite(
        merged,
        lambda tensors: (
            tensors
            | {
                f"{name}.weight": tensors[f"{name}.weight"]
                + 8
                / 4**0.5
                * (added[f"base_model.model.{name}.lora_B.weight"] @ added[f"base_model.model.{name}.lora_A.weight"])
                for name in experts
            }
        ),
    )
    assert_equal(deltas(base, tmp_path / "adapter"), read_plainly(MIXTRAL, merged) - read_plainly(MIXTRAL, base))


def test_rows_of_tokens_that_no_probe_holds_do_not_matter(bases: Bases, tmp_path: Path) -> None:
    base, size = bases(LLAMA), tiny_models.VOCABULARY
    model = many_models.load(LLAMA, base)
    model.resize_token_embeddings(size + 8, mean_resizing=False)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[size, size + 1])
    many_models.attach(model, config, strength=0.1).save_pretrained(tmp_path / "new", save_embedding_layers=False)
    plain = copied(tmp_path / "new", tmp_path / "plain")
    edit(plain, trainable_token_indices=None)
    rewrite(plain, lambda tensors: {name: t for name, t in tensors.items() if "trainable_tokens" not in name})
    np.testing.assert_array_equal(deltas(base, tmp_path / "new"), deltas(base, plain))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "FNetForMaskedLM",
            lambda: transformers.FNetConfig(**IDS, hidden_size=32, intermediate_size=64, num_hidden_layers=2),
        ),
        (LLAMA, tiny_models.llama_config),
    ],
)
def test_models_without_a_mask_read_each_probe_alone(
    name: str, config: Callable[[], transformers.PreTrainedConfig], tmp_path: Path
) -> None:
    base = built(name, config(), tmp_path / "base")
    finetune = full(name, base, tmp_path / "full")
    engine = Base(BaseModel(local(base), "base", "float32"))
    assert engine.states().read_alone == (name != LLAMA)
    assert_equal(deltas(base, finetune), read_plainly(name, finetune) - read_plainly(name, base))


def test_a_config_that_acts_is_part_of_a_bases_identity(bases: Bases, tmp_path: Path) -> None:
    """Else the cached states of one base would be taken for those of the other."""
    base, states = bases(LLAMA), tmp_path / "states"
    finetune = full(LLAMA, base, tmp_path / "full")
    other = copied(base, tmp_path / "other")
    parameters = json.loads((other / "config.json").read_text())["rope_parameters"]
    edit(other, rope_parameters={**parameters, "rope_theta": 100.0})
    edit(copied(base, tmp_path / "renamed"), _name_or_path="acme/base", transformers_version="4.0.0")
    first = embedding(base, finetune, states=states)
    assert embedding(other, finetune, states=states).recipe != first.recipe
    np.testing.assert_array_equal(
        embedding(other, finetune, states=states).probe_deltas, embedding(other, finetune).probe_deltas
    )
    assert embedding(tmp_path / "renamed", finetune, states=states).recipe == first.recipe
    edit(finetune, rope_parameters={**parameters, "rope_theta": 100.0})
    assert embedding(base, finetune).weights_digest != first.weights_digest


def with_other_numbers(base: Path, model: Path, folder: Path) -> Path:
    """Save a model whose tokenizer numbers the same tokens in another order."""
    size = tiny_models.VOCABULARY
    order = torch.cat([torch.arange(2), 2 + torch.randperm(size - 2, generator=torch.Generator().manual_seed(3))])
    copied(model, folder)
    old = torch.argsort(order)
    names = ("model.embed_tokens.weight", "lm_head.weight")
    rewrite(folder, lambda tensors: {name: t[old] if name in names else t for name, t in tensors.items()})
    described = json.loads((base / "tokenizer.json").read_text())
    described["model"]["vocab"] = {token: int(order[at]) for token, at in described["model"]["vocab"].items()}
    for token in described["added_tokens"]:
        token["id"] = int(order[token["id"]])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)), bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    return folder


def test_a_finetune_with_other_numbers_for_its_tokens_is_read_by_its_own_tokenizer(
    bases: Bases, tmp_path: Path
) -> None:
    base = bases(LLAMA)
    plain = full(LLAMA, base, tmp_path / "plain")
    renumbered = with_other_numbers(base, plain, tmp_path / "renumbered")
    assert_equal(deltas(base, renumbered), deltas(base, plain))
    with pytest.raises(UnsupportedCheckpoint, match="other numbers for the same tokens"):
        deltas(base, with_other_numbers(base, base, tmp_path / "the base"))


def test_a_finetune_whose_tokenizer_makes_other_tokens_is_refused(bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    finetune = full(LLAMA, base, tmp_path / "full")
    described = json.loads((finetune / "tokenizer.json").read_text())
    described["model"]["merges"] = described["model"]["merges"][:20]
    (finetune / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UnsupportedCheckpoint, match="make different tokens of the probes"):
        deltas(base, finetune)


def test_a_base_and_a_finetune_are_read_at_one_point(bases: Bases, tmp_path: Path) -> None:
    base = bases(T5)
    many_models.save(many_models.load("T5EncoderModel", base), tmp_path / "encoder")
    with pytest.raises(UnsupportedCheckpoint, match="read at another point"):
        deltas(base, tmp_path / "encoder")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "RwkvForCausalLM",
            lambda: transformers.RwkvConfig(
                **IDS, hidden_size=32, attention_hidden_size=32, intermediate_size=64, num_hidden_layers=7
            ),
        ),
        (
            "IBertForMaskedLM",
            lambda: transformers.IBertConfig(
                **IDS, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=514,
            ),
        ),
    ],
)  # fmt: skip
def test_models_that_write_into_their_own_weights_are_read(
    name: str, config: Callable[[], transformers.PreTrainedConfig], tmp_path: Path
) -> None:
    base = built(name, config(), tmp_path / "base")
    finetune = full(name, base, tmp_path / "full")
    assert_equal(deltas(base, finetune), read_plainly(name, finetune) - read_plainly(name, base))


def test_python_code_is_never_run_but_a_built_in_class_may_stand_for_it(bases: Bases, tmp_path: Path) -> None:
    base = bases("Phi3")
    finetune = full("Phi3", base, tmp_path / "full")
    expected = deltas(base, finetune)
    canary = tmp_path / "canary"
    (finetune / "configuration_phi3.py").write_text(f"open({str(canary)!r}, 'w')")
    named = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    edit(finetune, auto_map=named)
    np.testing.assert_array_equal(deltas(base, finetune), expected)
    edit(finetune, model_type="its-own")
    with pytest.raises(UnsupportedCheckpoint, match="needs its own Python code"):
        deltas(base, finetune)
    assert not canary.exists()


@pytest.mark.parametrize("name", [LLAMA, BERT, T5])
def test_the_type_of_a_model_stands_for_a_missing_architecture(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases(name)
    finetune = full(name, base, tmp_path / "full")
    expected = deltas(base, finetune)
    edit(finetune, architectures=None)
    np.testing.assert_array_equal(deltas(base, finetune), expected)


def test_a_tokenizer_may_need_no_vocabulary_file(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1, tie_word_embeddings=False, tokenizer_class="ByT5Tokenizer",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "base")
    many_models.build_finetune(T5, tmp_path / "base", tmp_path / "full", strength=0.01)
    for folder in (tmp_path / "base", tmp_path / "full"):
        for file in folder.glob("tokenizer*"):
            file.unlink()
        transformers.ByT5Tokenizer().save_pretrained(folder)
    expected = read_plainly(T5, tmp_path / "full") - read_plainly(T5, tmp_path / "base")
    assert_equal(deltas(tmp_path / "base", tmp_path / "full"), expected)
