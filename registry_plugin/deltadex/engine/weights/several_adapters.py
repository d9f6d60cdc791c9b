"""Several plain LoRA adapters on one model, each under a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import PeftConfig, PeftModel, set_peft_model_state_dict
from transformers import PreTrainedModel

from deltadex.checkpoints.adapter_shapes import module_of
from deltadex.checkpoints.adapters import chain_obstacle
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.failures import first_line, is_out_of_memory
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.peft_adapters import fit_config, named_as_in, read_adapter
from deltadex.errors import BaseMismatch, DeltadexError, UnsupportedCheckpoint

_PREFIX = "base_model.model."
#: Settings that choose modules; here each module is named.
_CHOOSING = ("exclude_modules", "layers_to_transform", "layers_pattern")


def refuse_unmergeable(adapter: LocalCheckpoint) -> None:
    """Refuse an adapter whose update cannot simply be added to that of others.

    Raises
    ------
    UnsupportedCheckpoint
    """
    config = adapter.read_config()
    reason = chain_obstacle(config) or ("lora_bias" if config.get("lora_bias") else "")
    if adapter.below is not None:
        reason = "an adapter below it"
    others = [name for name in adapter.tensors() if ".lora_" not in name]
    if not reason and others:
        reason = f"tensors beside its LoRAs, such as {others[0]}"
    if reason:
        raise UnsupportedCheckpoint(
            f"{adapter} cannot be merged as an adapter: it has {reason}",
            hint="Only plain LoRAs add up. Merge it into its base, register the full model, and merge full models.",
        )


def names_of(adapters: Sequence[LocalCheckpoint]) -> list[str]:
    """Return the names under which `attach` attaches adapters."""
    return [f"parent{number}" for number in range(len(adapters))]


def attach(model: PreTrainedModel, adapters: Sequence[LocalCheckpoint], *, compute: Compute) -> PeftModel:
    """Return a model whose parameters are in place with adapters attached, named by `names_of`.

    Raises
    ------
    UnsupportedCheckpoint
        An adapter is not a plain LoRA.
    BaseMismatch
        It does not fit the model.
    """
    for adapter in adapters:
        refuse_unmergeable(adapter)
    read = [named_as_in(model, read_adapter(adapter, compute)) for adapter in adapters]  # before peft's layers
    peft: PeftModel | None = None
    for name, adapter, (tensors, renamed) in zip(names_of(adapters), adapters, read, strict=True):
        try:
            config = _config(adapter, tensors, renamed)
            if peft is None:
                peft = PeftModel(model, config, name, low_cpu_mem_usage=True)
            else:
                peft.add_adapter(name, config, low_cpu_mem_usage=True)
            loaded = set_peft_model_state_dict(peft, tensors, name, low_cpu_mem_usage=True)
        except DeltadexError:
            raise
        except Exception as error:  # an untrusted config can fail anywhere in the library
            if is_out_of_memory(error):
                raise
            raise _mismatch(adapter, f"cannot be attached: {first_line(error)}") from error
        if loaded.unexpected_keys:
            raise _mismatch(adapter, f"has a tensor without a place in its base: {loaded.unexpected_keys[0]}")
    assert peft is not None  # noqa: S101 - callers name at least two
    return peft.eval()


def _config(adapter: LocalCheckpoint, tensors: dict[str, Any], renamed: dict[str, str]) -> PeftConfig:
    """Return an adapter's config with its modules named one by one.

    peft's merge keeps the first adapter's choice of layers, and would drop what others change elsewhere.
    """
    config = PeftConfig.from_pretrained(adapter.folder, inference_mode=True)
    fit_config(config, tensors, renamed)
    config.target_modules = {module_of(name.removeprefix(_PREFIX)) for name in tensors}
    for setting in _CHOOSING:
        setattr(config, setting, None)
    return config


def _mismatch(adapter: LocalCheckpoint, reason: str) -> BaseMismatch:
    return BaseMismatch(f"The adapter {adapter} {reason}", hint="Declare the base that it was trained on.")
