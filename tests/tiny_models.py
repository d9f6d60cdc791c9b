"""Tiny but real base models, adapters and finetunes, built by transformers and peft in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from deltadex.engine.probes import PAPER_PROBES

VOCABULARY = 384
HIDDEN_SIZE = 32
QUERY_VALUE = ("q_proj", "v_proj")
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_SIZES = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
_DECODER = {
    **_SIZES,
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def llama_config(**changes: object) -> LlamaConfig:
    return LlamaConfig(**{**_DECODER, **changes})


def qwen2_config() -> Qwen2Config:
    return Qwen2Config(**_DECODER)


def gemma2_config() -> Gemma2Config:
    return Gemma2Config(**_DECODER)


def gpt2_config() -> GPT2Config:
    return GPT2Config(**_SIZES, n_embd=HIDDEN_SIZE, n_layer=2, n_head=4, n_positions=512)


@cache
def _trained_tokenizer() -> str:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        PAPER_PROBES.probes, vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], show_progress=False
    )
    return str(tokenizer.to_str())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the probes; it can read any text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer()), bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def build_base(
    folder: Path, *, seed: int = 0, config: PreTrainedConfig | None = None, dtype: torch.dtype = torch.float32
) -> Path:
    """Save a randomly initialised causal language model with its tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config or llama_config())
    model.to(dtype).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def attach_adapter(
    base: Path,
    *,
    seed: int = 0,
    targets: Iterable[str] = QUERY_VALUE,
    strength: float = 0.05,
    vocabulary: int | None = None,
    **lora: object,
) -> PeftModel:
    """The base with a LoRA adapter whose matrices are all random, as after training."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), task_type="CAUSAL_LM", **lora)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = load(base)
        if vocabulary is not None:
            model.resize_token_embeddings(vocabulary, mean_resizing=False)
        model = get_peft_model(model, config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=strength)
    return model


def build_adapter(base: Path, folder: Path, *, vocabulary: int | None = None, **adapter: Any) -> Path:
    """Save a LoRA adapter of `base`, as peft does; with `vocabulary`, its resized embeddings go with it."""
    model = attach_adapter(base, vocabulary=vocabulary, **adapter)
    embeddings = vocabulary is not None or "embed_tokens" in adapter.get("targets", ())
    model.save_pretrained(folder, save_embedding_layers=embeddings or "auto")
    return folder


def build_full_finetune(
    base: Path, folder: Path, *, seed: int = 0, strength: float = 0.004, vocabulary: int | None = None, **saving: object
) -> Path:
    """Save a copy of `base` whose every tensor was moved a little; with `vocabulary`, embeddings are resized too."""
    model = load(base)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * strength)
        if vocabulary is not None:
            model.resize_token_embeddings(vocabulary, mean_resizing=False)
    model.save_pretrained(folder, **saving)
    build_tokenizer().save_pretrained(folder)
    return folder
