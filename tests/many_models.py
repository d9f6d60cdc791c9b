"""One tiny model of every kind that transformers knows, and one adapter of every type that peft knows."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import PeftConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests import tiny_models
from tests.tiny_models import HIDDEN_SIZE, VOCABULARY

_IDS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
_LAYERS = {"hidden_size": HIDDEN_SIZE, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_DECODER = {**_IDS, **_LAYERS, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
_ENCODER = {**_IDS, **_LAYERS, "max_position_embeddings": 514}
_T5 = {
    **_IDS,
    "d_model": HIDDEN_SIZE,
    "d_ff": 64,
    "d_kv": 8,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_BART = {
    **_IDS, "d_model": HIDDEN_SIZE, "max_position_embeddings": 512, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
}  # fmt: skip
_EXPERTS = {**_DECODER, "num_experts_per_tok": 2}
_VISION = {**_LAYERS, "image_size": 28, "patch_size": 14}

#: Class of transformers → its config.
_CONFIGS: Mapping[str, Callable[[], Any]] = {
    "LlamaForCausalLM": lambda: transformers.LlamaConfig(**_DECODER),
    "LlamaModel": lambda: transformers.LlamaConfig(**_DECODER),
    "LlamaForSequenceClassification": lambda: transformers.LlamaConfig(**_DECODER),
    "LlamaForTokenClassification": lambda: transformers.LlamaConfig(**_DECODER),
    "Gemma2ForCausalLM": lambda: transformers.Gemma2Config(**_DECODER),
    "GPT2LMHeadModel": tiny_models.gpt2_config,
    "GPTNeoXForCausalLM": lambda: transformers.GPTNeoXConfig(**_DECODER),
    "MambaForCausalLM": lambda: transformers.MambaConfig(**_IDS, hidden_size=HIDDEN_SIZE, num_hidden_layers=2),
    "MixtralForCausalLM": lambda: transformers.MixtralConfig(**_EXPERTS, num_local_experts=4),
    "Qwen3MoeForCausalLM": lambda: transformers.Qwen3MoeConfig(**_EXPERTS, num_experts=4, moe_intermediate_size=16),
    "GptOssForCausalLM": lambda: transformers.GptOssConfig(**_EXPERTS, num_local_experts=4),
    "T5ForConditionalGeneration": lambda: transformers.T5Config(**_T5),
    "T5EncoderModel": lambda: transformers.T5Config(**_T5),
    "BartForConditionalGeneration": lambda: transformers.BartConfig(**_BART),
    "BartModel": lambda: transformers.BartConfig(**_BART),
    "BertForMaskedLM": lambda: transformers.BertConfig(**_ENCODER),
    "BertForPreTraining": lambda: transformers.BertConfig(**_ENCODER),
    "BertForSequenceClassification": lambda: transformers.BertConfig(**_ENCODER),
    "BertForTokenClassification": lambda: transformers.BertConfig(**_ENCODER),
    "BertModel": lambda: transformers.BertConfig(**_ENCODER),
    "RobertaForMaskedLM": lambda: transformers.RobertaConfig(**_ENCODER),
    "ModernBertForMaskedLM": lambda: transformers.ModernBertConfig(**_ENCODER, cls_token_id=0, sep_token_id=1),
    "DistilBertForMaskedLM": lambda: transformers.DistilBertConfig(
        vocab_size=VOCABULARY, dim=HIDDEN_SIZE, hidden_dim=64, n_layers=2, n_heads=4, pad_token_id=1
    ),
    "LlavaForConditionalGeneration": lambda: transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**_DECODER),
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        image_token_id=5,
    ),
    "Gemma3ForConditionalGeneration": lambda: transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(**_DECODER),
        vision_config=transformers.SiglipVisionConfig(**_VISION),
        mm_tokens_per_image=4,
    ),
}
MODELS = tuple(_CONFIGS)

_TARGETS = ["q_proj", "down_proj"]
_LORA = {"r": 4, "lora_alpha": 8, "target_modules": _TARGETS}

#: What an adapter of a tiny Llama may be.
ADAPTERS: Mapping[str, Callable[[], PeftConfig]] = {
    "lora": lambda: peft.LoraConfig(**_LORA),
    "rslora": lambda: peft.LoraConfig(**_LORA, use_rslora=True),
    "dora": lambda: peft.LoraConfig(**_LORA, use_dora=True),
    "lora of embeddings": lambda: peft.LoraConfig(r=4, target_modules=["embed_tokens", "lm_head"]),
    "lora with its own head": lambda: peft.LoraConfig(**_LORA, modules_to_save=["lm_head"]),
    "lora with new tokens": lambda: peft.LoraConfig(**_LORA, trainable_token_indices=[1, 2]),
    "adalora": lambda: peft.AdaLoraConfig(target_modules=_TARGETS, total_step=10, init_r=4, target_r=2),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=_TARGETS),
    "lokr": lambda: peft.LoKrConfig(r=2, target_modules=_TARGETS),
    "lokr of two": lambda: peft.LoKrConfig(r=2, decompose_both=True, decompose_factor=4, target_modules=_TARGETS),
    "ia3": lambda: peft.IA3Config(target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "oft": lambda: peft.OFTConfig(oft_block_size=8, target_modules=_TARGETS),
    "oft, one block": lambda: peft.OFTConfig(r=4, oft_block_size=0, block_share=True, target_modules=_TARGETS),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=_TARGETS),
    "vera without projection": lambda: peft.VeraConfig(r=4, target_modules=_TARGETS, save_projection=False),
    "norms": lambda: peft.LNTuningConfig(),
    "tokens": lambda: peft.TrainableTokensConfig(token_indices=[1, 5]),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=3),
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3),
    "projected prefix": lambda: peft.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16
    ),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=16),
}


def build_model(name: str, folder: Path, *, seed: int = 0, **saving: Any) -> Path:
    """Save a randomly initialised model of a class of transformers with a tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, name)(_CONFIGS[name]())
    return save(model, folder, **saving)


def load(name: str, folder: Path) -> Any:
    """Load a model as a class of transformers, which may be another than it was saved from."""
    return getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def build_finetune(name: str, base: Path, folder: Path, *, strength: float = 0.002, **saving: Any) -> Path:
    """Save a copy of `base`, loaded as a class of transformers, whose every tensor was moved a little."""
    model = load(name, base)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * strength)
    return save(model, folder, **saving)


def attach(model: PreTrainedModel, config: PeftConfig, *, strength: float = 0.01) -> Any:
    """Put an adapter around a model, all of it random, as after training."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        adapted = get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * strength)
    return adapted.eval()


def build_fp8(base: Path, folder: Path, *, block: int = 16) -> Path:
    """Save `base` with its matrices in 8 bits and a scale for each block of them, as DeepSeek and Qwen have them."""
    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        rows, columns = tensors[name].shape
        blocks = tensors[name].float().reshape(rows // block, block, columns // block, block)
        scales = blocks.abs().amax((1, 3)) / torch.finfo(torch.float8_e4m3fn).max
        tensors[name] = (blocks / scales[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scales
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    quantization = {"quant_method": "fp8", "weight_block_size": [block, block], "modules_to_not_convert": ["lm_head"]}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    return folder


def build_adapter(kind: str, base: Path, folder: Path) -> Path:
    """Save an adapter of a causal language model, as peft does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft's advice, which these shapes and VeRA's config ask for
        config = ADAPTERS[kind]()
        config.task_type = "CAUSAL_LM"
        attach(tiny_models.load(base), config).save_pretrained(folder, save_embedding_layers=False)
    return folder


def save(model: PreTrainedModel, folder: Path, **saving: Any) -> Path:
    """Save a model with a tokenizer."""
    model.save_pretrained(folder, **saving)
    tiny_models.build_tokenizer().save_pretrained(folder)
    return folder
