"""More kinds of tiny models and adapters, and a reference implementation of reading the probes.

The reference shares no code with the engine: it loads the whole model and reads one probe at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file, save_file

from deltadex.engine.probes import PAPER_PROBES
from tests import many_models, tiny_models

#: Builds a base by its name, once.
Bases = Callable[[str], Path]

_IDS = {"vocab_size": tiny_models.VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_DECODER = {**_IDS, **_LAYERS, "num_key_value_heads": 2, "head_dim": 8}

#: Name → class of transformers and its config.
_MORE: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "tied Llama": ("LlamaForCausalLM", lambda: tiny_models.llama_config(tie_word_embeddings=True)),
    "Qwen2": ("Qwen2ForCausalLM", tiny_models.qwen2_config),
    "Gemma3": ("Gemma3ForCausalLM", lambda: transformers.Gemma3TextConfig(**_DECODER)),
    "Gemma3n": (
        "Gemma3nForCausalLM",
        lambda: transformers.Gemma3nTextConfig(
            **{**_DECODER, "num_hidden_layers": 4},
            vocab_size_per_layer_input=tiny_models.VOCABULARY, hidden_size_per_layer_input=8, laurel_rank=4,
            num_kv_shared_layers=2, activation_sparsity_pattern=[0.0] * 4,
            layer_types=["sliding_attention", "full_attention"] * 2,
        ),
    ),
    "DeepSeek-V3": (
        "DeepseekV3ForCausalLM",
        lambda: transformers.DeepseekV3Config(
            **_IDS, **_LAYERS, n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2,
            moe_intermediate_size=16, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, v_head_dim=8,
            qk_nope_head_dim=8, first_k_dense_replace=1,
        ),
    ),
    "Phi3": ("Phi3ForCausalLM", lambda: transformers.Phi3Config(**_IDS, **_LAYERS, num_key_value_heads=2)),
    "Falcon": ("FalconForCausalLM", lambda: transformers.FalconConfig(**_IDS, **_LAYERS)),
    "Bloom": ("BloomForCausalLM", lambda: transformers.BloomConfig(**_IDS, hidden_size=32, n_layer=2, n_head=4)),
    "OPT": (
        "OPTForCausalLM",
        lambda: transformers.OPTConfig(
            **_IDS, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32
        ),
    ),
    "Mamba2": (
        "Mamba2ForCausalLM",
        lambda: transformers.Mamba2Config(
            **_IDS, hidden_size=32, num_hidden_layers=2, state_size=4, num_heads=8, head_dim=8, n_groups=1
        ),
    ),
    "gated T5": (
        "T5ForConditionalGeneration",
        lambda: transformers.T5Config(
            **_IDS, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0,
            feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        ),
    ),
    "DeBERTa": ("DebertaV2ForMaskedLM", lambda: transformers.DebertaV2Config(**_IDS, **_LAYERS)),
    "ALBERT": ("AlbertForMaskedLM", lambda: transformers.AlbertConfig(**_IDS, **_LAYERS, embedding_size=16)),
}  # fmt: skip
MODELS = (*many_models.MODELS, *_MORE)

_ENCODERS = ("Bert", "Roberta", "ModernBert", "DistilBert", "DeBERTa", "ALBERT", "T5Encoder", "FNet", "IBert")
#: Some that every probe holds.
_TOKENS = [200, 260, 275]
_LORA = {"r": 4, "lora_alpha": 8}
_LLAMA = "LlamaForCausalLM"

#: Name → the model that the adapter is of, and its config. The first are `many_models.ADAPTERS`, all of Llamas.
_ADAPTERS: Mapping[str, tuple[str, Callable[[], PeftConfig]]] = {
    **{name: (_LLAMA, config) for name, config in many_models.ADAPTERS.items()},
    "tokens": (_LLAMA, lambda: peft.TrainableTokensConfig(token_indices=_TOKENS)),
    "lora with new tokens": (
        _LLAMA, lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj"], trainable_token_indices=_TOKENS),
    ),
    "lora with biases": (
        "Bloom", lambda: peft.LoraConfig(**_LORA, target_modules=["query_key_value"], bias="all"),
    ),
    "lora with biases of its own": (
        _LLAMA, lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj"], lora_bias=True),
    ),
    "lora with embeddings and head of its own": (
        _LLAMA,
        lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]),
    ),
    "lora with norms of its own": (
        _LLAMA,
        lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj"], modules_to_save=["input_layernorm", "norm"]),
    ),
    "lora of tied embeddings": (
        "tied Llama", lambda: peft.LoraConfig(**_LORA, target_modules=["embed_tokens", "q_proj"]),
    ),
    "lora of experts": (
        "MixtralForCausalLM",
        lambda: peft.LoraConfig(
            **_LORA,
            target_modules=["q_proj"],
            target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        ),
    ),
    "lora of GPT-2": (
        "GPT2LMHeadModel", lambda: peft.LoraConfig(**_LORA, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True),
    ),
    "lora of Mamba": ("MambaForCausalLM", lambda: peft.LoraConfig(**_LORA, target_modules=["in_proj", "x_proj"])),
    "lora of Gemma3n": ("Gemma3n", lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj", "down_proj"])),
    "lora of T5": (
        "T5ForConditionalGeneration",
        lambda: peft.LoraConfig(**_LORA, target_modules=["q", "v", "wo"], task_type="SEQ_2_SEQ_LM"),
    ),
    "lora of BART": (
        "BartForConditionalGeneration",
        lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj", "v_proj"], task_type="SEQ_2_SEQ_LM"),
    ),
    "lora of BERT": ("BertForMaskedLM", lambda: peft.LoraConfig(**_LORA, target_modules=["query", "value"])),
    "lora of a classifier": (
        "LlamaForSequenceClassification",
        lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS"),
    ),
    "lora of a multimodal model": (
        "LlavaForConditionalGeneration", lambda: peft.LoraConfig(**_LORA, target_modules=r".*language_model.*q_proj"),
    ),
    "prefix of Gemma2": ("Gemma2ForCausalLM", lambda: peft.PrefixTuningConfig(num_virtual_tokens=3)),
}  # fmt: skip
ADAPTERS = tuple(_ADAPTERS)


def class_of(name: str) -> str:
    """The class of transformers that a model is saved from."""
    return _MORE[name][0] if name in _MORE else name


def model_of(adapter: str) -> str:
    """The model that an adapter is put around."""
    return _ADAPTERS[adapter][0]


def build_model(name: str, folder: Path) -> Path:
    """Save a randomly initialised model, none of whose tensors is all zeros or ones."""
    if name in many_models.MODELS:
        many_models.build_model(name, folder)
    else:
        kind, config = _MORE[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            getattr(transformers, kind)(config()).save_pretrained(folder)
        tiny_models.build_tokenizer().save_pretrained(folder)
    return many_models.build_finetune(class_of(name), folder, folder, strength=0.05)


def build_adapter(name: str, base: Path, folder: Path) -> Path:
    """Save an adapter, as peft does."""
    model, config = _ADAPTERS[name][0], _ADAPTERS[name][1]()
    if class_of(model).endswith(("ForCausalLM", "LMHeadModel")):
        config.task_type = "CAUSAL_LM"
    many_models.attach(many_models.load(class_of(model), base), config, strength=0.2).save_pretrained(folder)
    return folder


Quantize = Callable[[str, torch.Tensor], Mapping[str, torch.Tensor]]


def quantize(folder: Path, quantization: Mapping[str, object], rewrite: Quantize) -> None:
    """Store a model's tensors in another way, and have its config say so."""
    file, config = folder / "model.safetensors", folder / "config.json"
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(file).items():
        stored |= rewrite(name, tensor)
    save_file(stored, file, metadata={"format": "pt"})
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": quantization}))


def in_float8_blocks(name: str, tensor: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Projections in blocks of 16 × 16 float8 numbers with a scale each, as DeepSeek-V3 has them."""
    if not name.endswith("proj.weight"):
        return {name: tensor}
    blocks = tensor.view(tensor.shape[0] // 16, 16, tensor.shape[1] // 16, 16)
    scales = blocks.abs().amax(dim=(1, 3)) / torch.finfo(torch.float8_e4m3fn).max
    quantized = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
    return {name: quantized.view(tensor.shape), f"{name}_scale_inv": scales}


def in_four_bits(name: str, tensor: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Experts in random blocks of 32 four-bit numbers with a power of two each, as GPT-OSS has them."""
    if not name.endswith(("gate_up_proj", "down_proj")):
        return {name: tensor}
    experts, inputs, outputs = tensor.shape
    shape = (experts, outputs, inputs // 32)
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(120, 124, shape, dtype=torch.uint8, generator=generator)
    return {f"{name}_blocks": blocks, f"{name}_scales": scales}


def read_plainly(name: str, base: Path, adapter: Path | None = None) -> np.ndarray:
    """Return `(n_probes, hidden_size)`: each probe alone through the library's own model, in float32."""
    model = many_models.load(class_of(name), base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    states = []
    for probe in PAPER_PROBES.probes:
        ids = tokenizer(probe, return_tensors="pt")["input_ids"]
        mask = {} if name.startswith("FNet") else {"attention_mask": torch.ones_like(ids)}  # FNet knows none
        tokens = _last_hidden_state(model.eval(), {"input_ids": ids, **mask})
        states.append(tokens.mean(dim=0) if name.startswith(_ENCODERS) else tokens[-1])
    return torch.stack(states).numpy()


@torch.no_grad()
def _last_hidden_state(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return `(n_tokens, hidden_size)`: every token of the probe, or the first one that a decoder answers with."""
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]])
    if model.config.model_type == "gemma3n_text":  # its hidden states are four streams until the body adds them up
        whole = model.get_base_model() if isinstance(model, PeftModel) else model
        return whole.base_model(**inputs).last_hidden_state[0]
    output = model(**inputs, output_hidden_states=True)
    return (output.get("decoder_hidden_states") or output.hidden_states)[-1][0]
