"""Which adapters Deltadex embeds, judged by their config alone, and which of them may lie on top of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltadex.errors import UnsupportedCheckpoint

#: Types that peft 0.21.2 was seen to load without touching a tensor of the base (tests/checkpoints/test_adapters.py).
TYPES = (
    "LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "VERA", "LN_TUNING", "TRAINABLE_TOKENS",
    "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING",
)  # fmt: skip
#: Types that put something before the text and leave the model as it is.
PROMPT_TYPES = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING")

_TASKS = (None, "CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION")
#: Settings with which an adapter needs more than itself and its base.
_UNKNOWN_FEATURES = ("megatron_config", "alora_invocation_tokens", "arrow_config")
#: Initialisations that subtract from the base what they put into the adapter (peft, `LoraLayer.update_layer`).
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
#: What makes a LoRA more than a sum: two of them would not simply add up.
_NOT_ADDITIVE = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")


def check_adapter(config: Mapping[str, Any], where: str) -> None:
    """Make sure that an adapter can be embedded.

    Raises
    ------
    UnsupportedCheckpoint
        Its type, task or initialisation is none that can be loaded onto an unchanged base.
    """
    if config.get("peft_type") not in TYPES:
        raise UnsupportedCheckpoint(
            f"{where} is an adapter of type {config.get('peft_type')}",
            hint=f"Deltadex embeds adapters of the types {', '.join(sorted(TYPES))}. Merge others into their base.",
        )
    if config.get("task_type") not in _TASKS:
        raise UnsupportedCheckpoint(
            f"{where} is an adapter for the task {config['task_type']}",
            hint=f"Deltadex embeds adapters for the tasks {', '.join(task for task in _TASKS if task)}.",
        )
    for feature in _UNKNOWN_FEATURES:
        if config.get(feature):
            raise UnsupportedCheckpoint(
                f"{where} is an adapter with {feature}", hint="Merge it into its base and register the result."
            )
    start = str(config.get("init_lora_weights")).lower()
    if config["peft_type"] == "LORA" and start.startswith(_CHANGES_BASE):
        raise UnsupportedCheckpoint(
            f"{where} was initialised by {start}, which changes the base: on the base itself it means something else",
            hint="Save it with path_initial_model_for_weight_conversion, which makes a plain LoRA of it, or merge it.",
        )


def check_chain(config: Mapping[str, Any], where: str) -> None:
    """Make sure that an adapter may be one of two on the same base: what it does must be a plain sum.

    Raises
    ------
    UnsupportedCheckpoint
        It is no LoRA, or one that does more than add.
    """
    reasons = [name for name in _NOT_ADDITIVE if config.get(name)]
    if config.get("peft_type") != "LORA":
        reasons = [f"type {config.get('peft_type')}"]
    elif config.get("bias", "none") != "none":
        reasons.append(f"bias {config['bias']}")
    if reasons:
        raise UnsupportedCheckpoint(
            f"{where} is one of two adapters on top of each other, which only plain LoRA can be (it has {reasons[0]})",
            hint="Merge the lower adapter into its base, and declare the result as the base.",
        )
