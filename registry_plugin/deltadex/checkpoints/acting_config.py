"""The part of a model's config that acts on its hidden states, as written in its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

#: Fields that cannot act on the hidden states of a prompt; any other field is assumed to. Digests of models and recipes
#: depend on this list. What a token means is told by the tokenizer, and sizes by the tensors.
INERT_FIELDS = frozenset(
    {
        "_name_or_path", "name_or_path", "_commit_hash", "architectures", "auto_map", "transformers_version", "dtype",
        "torch_dtype", "unsloth_version", "unsloth_fixed", "model_name", "finetuning_task", "task_specific_params",
        "id2label", "label2id", "num_labels", "problem_type", "use_cache", "return_dict", "output_attentions",
        "output_hidden_states", "gradient_checkpointing", "initializer_range", "initializer_factor", "vocab_size",
        "tie_word_embeddings", "bos_token_id", "eos_token_id", "attention_dropout", "hidden_dropout", "dropout",
        "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout", "activation_dropout", "classifier_dropout",
        "attention_probs_dropout_prob", "hidden_dropout_prob", "dropout_rate", "layerdrop", "encoder_layerdrop",
        "decoder_layerdrop", "max_length", "min_length", "do_sample", "num_beams", "repetition_penalty",
        "early_stopping", "_attn_implementation_autoset",
    }
)  # fmt: skip
_QUANTIZATION = {"quantization_config", "quantization"}
_GENERATION_CONFIG, _START = "generation_config.json", "decoder_start_token_id"


def acting(config: Mapping[str, Any], inert: Set[str] = INERT_FIELDS) -> dict[str, Any]:
    """Return a config, and the configs inside it, without the fields that cannot act."""
    return {
        name: acting(value, inert) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in inert
    }


def acting_config(config: Mapping[str, Any], folder: Path, *, is_quantized: bool) -> dict[str, Any]:
    """Return what acts of a full model's `config.json` and `generation_config.json`.

    It is taken from the files, and not from the library's reading of them, which changes with its version.

    Parameters
    ----------
    is_quantized
        Whether the weights are; a quantization that is only left over in the config does not act.
    """
    fields = acting(config, INERT_FIELDS if is_quantized else INERT_FIELDS | _QUANTIZATION)
    try:
        generation = json.loads((folder / _GENERATION_CONFIG).read_bytes())
    except (OSError, ValueError):
        generation = {}
    start = generation.get(_START) if isinstance(generation, dict) else None
    return fields if start is None else {**fields, _START: start}
