"""Checks of adapter configs: supported types, and chains of two adapters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

#: Types that peft 0.21.2 loads without changing a tensor of the base (tests/checkpoints/test_adapters.py).
SUPPORTED_TYPES = (
    "LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "VERA", "LN_TUNING", "TRAINABLE_TOKENS",
    "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING",
)  # fmt: skip
#: Types that prefix the text and leave the model unchanged.
PROMPT_TYPES = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING")

_TASKS = (None, "CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
#: Settings of adapters that depend on more than their own tensors and the base.
_UNSUPPORTED_FEATURES = ("megatron_config", "alora_invocation_tokens", "arrow_config", "layer_replication")
#: Initialisations that subtract the adapter's initial update from the base (peft, `LoraLayer.update_layer`).
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
#: Settings of LoRAs that do not simply add up.
_NOT_ADDITIVE = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")


def check_adapter(config: Mapping[str, Any], where: str) -> None:
    """Check that an adapter can be embedded.

    Raises
    ------
    BrokenCheckpoint
        Its rank or alpha is no number.
    UnsupportedCheckpoint
        Its type, task or initialisation cannot be loaded onto an unchanged base.
    """
    if config.get("peft_type") not in SUPPORTED_TYPES:
        raise UnsupportedCheckpoint(
            f"{where} is an adapter of type {config.get('peft_type')}",
            hint=f"Supported types: {', '.join(sorted(SUPPORTED_TYPES))}. Merge other types into their base.",
        )
    if config.get("task_type") not in _TASKS:
        raise UnsupportedCheckpoint(
            f"{where} is an adapter for the task {config['task_type']}",
            hint=f"Deltadex embeds adapters for the tasks {', '.join(task for task in _TASKS if task)}.",
        )
    for feature in _UNSUPPORTED_FEATURES:
        if config.get(feature):
            raise UnsupportedCheckpoint(
                f"{where} is an adapter with {feature}", hint="Merge it into its base and register the result."
            )
    for field in ("r", "lora_alpha"):
        value = config.get(field)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise BrokenCheckpoint(
                f"{where} is an adapter whose {field} is {str(value)[:40]!r}", hint="Save it with save_pretrained."
            )
    init = str(config.get("init_lora_weights")).lower()
    if config["peft_type"] == "LORA" and init.startswith(_BASE_CHANGING_INITS):
        raise UnsupportedCheckpoint(
            f"{where} was initialised by {init}, which changes the base: it does not apply to the original base",
            hint="Save it with path_initial_model_for_weight_conversion, which gives a plain LoRA, or merge it.",
        )


def chain_obstacle(config: Mapping[str, Any]) -> str:
    """Return why an adapter's update cannot simply be added to another one's on the same base; empty if it can."""
    if config.get("peft_type") != "LORA":
        return f"type {config.get('peft_type')}"
    if config.get("bias", "none") != "none":
        return f"bias {config['bias']}"
    return next((name for name in _NOT_ADDITIVE if config.get(name)), "")
