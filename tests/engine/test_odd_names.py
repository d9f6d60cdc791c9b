"""Names that trainers, other classes and other releases give to a model's tensors: the number stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deltadex.errors import BaseMismatch
from tests import many_models, tiny_models
from tests.engine.test_formats import assert_equal
from tests.language_models import Bases, read_plainly
from tests.saved_checkpoints import (
    BERT,
    EXPECTED_WARNINGS,
    LLAMA,
    MIXTRAL,
    T5,
    adapter,
    copied,
    deltas,
    full,
    rename,
    rewrite,
)

pytestmark = EXPECTED_WARNINGS


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
        lambda name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."),
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.removeprefix("base_model.model."),
    ],
    ids=["torch.compile", "DDP", "FSDP", "activation checkpointing", "adapter name", "without peft's prefix"],
)
def test_names_that_training_left_do_not_matter(wrapped: Callable[[str], str], bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    plain = adapter(LLAMA, base, tmp_path / "plain")
    rename(copied(plain, tmp_path / "wrapped"), wrapped)
    np.testing.assert_array_equal(deltas(base, tmp_path / "wrapped"), deltas(base, plain))


@pytest.mark.parametrize("suffix", [".modules_to_save.weight", ".modules_to_save.default.weight"])
def test_modules_trained_whole_may_have_the_name_of_their_wrapper(suffix: str, bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    plain = adapter(LLAMA, base, tmp_path / "plain", strength=0.01, modules_to_save=["embed_tokens", "lm_head"])
    inner = copied(plain, tmp_path / "inner")
    rename(
        inner,
        lambda name: name.replace("embed_tokens.weight", f"embed_tokens{suffix}").replace(
            "lm_head.weight", f"lm_head{suffix}"
        ),
    )
    np.testing.assert_array_equal(deltas(base, inner), deltas(base, plain))


@pytest.mark.parametrize(
    ("name", "trained_as", "targets"),
    [
        (LLAMA, "LlamaForSequenceClassification", ["q_proj", "v_proj"]),
        (LLAMA, "LlamaModel", ["q_proj", "v_proj"]),
        (BERT, "BertForSequenceClassification", ["query", "value"]),
        (BERT, "BertForQuestionAnswering", ["query", "value"]),
        (BERT, "BertModel", ["query", "value"]),
    ],
)
def test_an_adapter_may_be_trained_on_another_class_of_its_base(
    name: str, trained_as: str, targets: list[str], bases: Bases, tmp_path: Path
) -> None:
    """With a head of its own, which tells nothing, or without one."""
    base = bases(name)
    task = {
        "LlamaModel": "FEATURE_EXTRACTION",
        "BertModel": "FEATURE_EXTRACTION",
        "BertForQuestionAnswering": "QUESTION_ANS",
    }
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type=task.get(trained_as, "SEQ_CLS"))
    model = many_models.attach(many_models.load(trained_as, base), config, strength=0.1)
    model.save_pretrained(tmp_path / "adapter")
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    tiny_models.build_tokenizer().save_pretrained(tmp_path / "merged")
    expected = read_plainly(trained_as, tmp_path / "merged") - read_plainly(name, base)
    assert_equal(deltas(base, tmp_path / "adapter"), expected)


def test_a_text_adapter_fits_the_text_half_of_a_multimodal_base(bases: Bases, tmp_path: Path) -> None:
    whole = "Gemma3ForConditionalGeneration"
    base = bases(whole)
    model = many_models.load(whole, base)
    text = transformers.Gemma3ForCausalLM(model.config.text_config).eval()
    text.model.load_state_dict(model.model.language_model.state_dict())
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = many_models.attach(text, config, strength=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    many_models.save(adapted.merge_and_unload(), tmp_path / "merged")
    expected = read_plainly("Gemma3", tmp_path / "merged") - read_plainly(whole, base)
    assert_equal(deltas(base, tmp_path / "adapter"), expected)


def test_experts_may_have_the_names_that_they_have_in_memory(bases: Bases, tmp_path: Path) -> None:
    base = bases(MIXTRAL)
    plain = full(MIXTRAL, base, tmp_path / "plain")
    fused = copied(plain, tmp_path / "fused")
    save_file(many_models.load(MIXTRAL, plain).state_dict(), fused / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(deltas(base, fused), deltas(base, plain))


def test_layers_of_the_base_that_are_never_loaded_do_not_count(bases: Bases, tmp_path: Path) -> None:
    """DeepSeek-V3's layer for predicting several tokens, which transformers neither reads nor writes."""
    base = copied(bases("DeepSeek-V3"), tmp_path / "base")
    finetune = full("DeepSeek-V3", base, tmp_path / "full")
    expected = deltas(base, finetune)
    last = "model.layers.1."
    rewrite(
        base,
        lambda tensors: (
            tensors
            | {name.replace(last, "model.layers.2."): t.clone() for name, t in tensors.items() if name.startswith(last)}
        ),
    )
    np.testing.assert_array_equal(deltas(base, finetune), expected)


def test_a_parameter_that_was_dropped_from_an_architecture_does_not_count(bases: Bases, tmp_path: Path) -> None:
    base = copied(bases(T5), tmp_path / "base")
    finetune = full(T5, base, tmp_path / "full")
    expected = deltas(base, finetune)
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    rewrite(base, lambda tensors: tensors | {old: torch.randn(32, 4)})
    np.testing.assert_array_equal(deltas(base, finetune), expected)


def test_models_with_other_layers_do_not_fit(bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        deeper = transformers.LlamaForCausalLM(tiny_models.llama_config(num_hidden_layers=3))
    deeper.load_state_dict(load_file(base / "model.safetensors"), strict=False)
    many_models.save(deeper, tmp_path / "deeper")
    with pytest.raises(BaseMismatch, match=r"only one of the two models, such as layers\.2"):
        deltas(base, tmp_path / "deeper")
