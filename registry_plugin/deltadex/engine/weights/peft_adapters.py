"""Adapters of all supported peft types, attached to a model whose weights are not loaded yet."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from peft import PeftConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from deltadex.checkpoints.adapter_shapes import module_of
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.tensor_names import bare_name, is_in_layer
from deltadex.engine.failures import first_line, is_out_of_memory
from deltadex.engine.readout import VirtualTokens
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.mapped import MappedFiles
from deltadex.engine.weights.units import Slot, slots_of
from deltadex.errors import BaseMismatch, BrokenCheckpoint, DeltadexError

_PREFIX = "base_model.model."
_ADDED = re.compile(r"\.(lora_|hada_|lokr_|ia3_l|oft_R|vera_lambda_)")
_SINGLE_EXPERT = re.compile(r"\.experts\.\d+\.")
_ADAPTER_NAME = "default"
_LOWER_ADAPTER_NAME = "below"


class AdaptedModel:
    """A copy of the base with an adapter attached.

    Attributes
    ----------
    model
        The transformers model with peft's layers inside.
    slots
        The parameters that are loaded from the base; the rest are the adapter's own, such as its vocabulary.

    Raises
    ------
    BaseMismatch
        The adapter does not fit the model.
    """

    def __init__(self, model: PreTrainedModel, adapter: LocalCheckpoint, *, compute: Compute) -> None:
        self.model = model
        self._adapter = adapter
        tensors, renamed = named_as_in(model, read_adapter(adapter, compute))
        self._config = PeftConfig.from_pretrained(adapter.folder, inference_mode=True)
        _resize_vocabulary(model, tensors, self._config)
        slots = slots_of(model)
        try:
            self._peft = self._attach(tensors, renamed, slots, compute)
        except DeltadexError:
            raise
        except Exception as error:  # an untrusted config can fail anywhere in the library
            if is_out_of_memory(error):
                raise
            if "size mismatch" in str(error):  # what the base requires was checked before
                raise BrokenCheckpoint(
                    f"Tensors of the adapter {adapter} do not fit its own config: {first_line(error)}",
                    hint="Save it with save_pretrained and log it again.",
                ) from error
            raise self._mismatch(f"cannot be attached to its base: {first_line(error)}") from error
        self.slots = [slot for slot in slots if not _own_names(slot) & tensors.keys()]

    @property
    def is_prompt(self) -> bool:
        """True for adapters that prefix the probes instead of changing the model."""
        return bool(self._config.is_prompt_learning)

    def virtual_tokens(self, batch_size: int) -> VirtualTokens | None:
        """Return a prompt adapter's prefix for each probe; None for every other type."""
        if not self.is_prompt:
            return None
        prompt = self._peft.get_prompt(batch_size=batch_size)
        if isinstance(prompt, torch.Tensor):
            return VirtualTokens(prompt.shape[1], embeddings=prompt)
        return VirtualTokens(self._config.num_virtual_tokens, cache=prompt)

    def _attach(
        self, tensors: dict[str, Any], renamed: dict[str, str], slots: list[Slot], compute: Compute
    ) -> PeftModel:
        fit_config(self._config, tensors, renamed)
        # peft's initial LoRA values are replaced at once and need no memory. Other types compute with them.
        low_memory = self._config.peft_type == "LORA" and not self._config.trainable_token_indices
        if not low_memory:
            empty_slots(slots, compute)
        below = self._adapter.below
        if below is None:
            peft = PeftModel(self.model, self._config, _ADAPTER_NAME, low_cpu_mem_usage=low_memory)
        else:
            lower_config = PeftConfig.from_pretrained(below.folder, inference_mode=True)
            lower, lower_renamed = named_as_in(self.model, read_adapter(below, compute))
            fit_config(lower_config, lower, lower_renamed)
            peft = PeftModel(self.model, lower_config, _LOWER_ADAPTER_NAME, low_cpu_mem_usage=True)
            peft.add_adapter(_ADAPTER_NAME, self._config, low_cpu_mem_usage=True)
        empty_slots(slots, compute)
        self._fill(peft, tensors, _ADAPTER_NAME)
        if below is not None:
            self._fill(peft, lower, _LOWER_ADAPTER_NAME)
            peft.base_model.set_adapter([_LOWER_ADAPTER_NAME, _ADAPTER_NAME], inference_mode=True)
        return peft.eval()

    def _fill(self, peft: PeftModel, tensors: dict[str, Any], name: str) -> None:
        loaded = set_peft_model_state_dict(peft, tensors, name, low_cpu_mem_usage=True)
        if peft.peft_config[name].is_prompt_learning:
            return
        prefix = peft.base_model.prefix
        missing = [
            key for key in loaded.missing_keys if prefix in key and key.endswith((f".{name}", f".{name}.weight"))
        ]
        unused = [*loaded.unexpected_keys, *missing]
        if unused:
            raise self._mismatch(f"has {len(unused)} tensors that have no place in its base, such as {unused[0]}")

    def _mismatch(self, reason: str) -> BaseMismatch:
        return BaseMismatch(
            f"The adapter {self._adapter} {reason}",
            hint="Declare the base that the adapter was actually trained on.",
        )


def empty_slots(slots: list[Slot], compute: Compute) -> None:
    """Replace parameters of the base by placeholders that take no memory."""
    placeholder = compute.placeholder()
    for slot in slots:
        slot.empty(placeholder)


def is_adapted(module: nn.Module) -> bool:
    """Return True if a module contains layers of an adapter."""
    return any(isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper) for part in module.modules())


def read_adapter(adapter: LocalCheckpoint, compute: Compute) -> dict[str, Any]:
    """Return an adapter's tensors, without the two extra copies that peft saves of resized embeddings."""
    files, copies = MappedFiles(), (".modules_to_save.weight", ".original_module.weight")
    tensors = {name: files.tensor(stored) for name, stored in adapter.tensors().items() if not name.endswith(copies)}
    return {
        name: tensor.to(compute.device, compute.dtype if tensor.is_floating_point() else None, copy=True)
        for name, tensor in tensors.items()
    }


def named_as_in(model: PreTrainedModel, tensors: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an adapter's tensors under the names of this model's modules, and old → new path of each renamed module.

    An adapter may have been trained on another class: with a head or without, or on the text half of a multimodal
    model. A head that this model lacks is left out: it does not act on the hidden states.
    """
    paths = {path for path, _ in model.named_modules() if path}
    by_bare = {bare_name(path): path for path in sorted(paths, key=len, reverse=True)}
    placed, renamed = {}, {}
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX):  # a prompt, or a matrix that all modules share
            placed[name] = tensor
            continue
        module = module_of(name.removeprefix(_PREFIX))
        first, _, inner = module.partition(".")
        choices = (module, by_bare.get(bare_name(module)), f"{model.base_model_prefix}.{module}", inner)
        path = next((choice for choice in choices if choice in paths), None)
        if path is None and not is_in_layer(module) and not by_bare.get(first):
            continue
        if path not in (None, module):
            renamed[module] = path
        placed[name.replace(module, path or module, 1)] = tensor
    return placed, renamed


def fit_config(config: PeftConfig, tensors: dict[str, Any], renamed: dict[str, str]) -> None:
    """Change a config so that it names the modules of this model, and scales fused experts as single ones."""
    if renamed:
        config.target_modules = {module_of(name.removeprefix(_PREFIX)) for name in tensors if _ADDED.search(name)}
        for setting in ("exclude_modules", "layers_to_transform", "layers_pattern"):
            if hasattr(config, setting):
                setattr(config, setting, None)
        for setting in ("rank_pattern", "alpha_pattern"):
            patterns = getattr(config, setting, None) or {}
            setattr(config, setting, {renamed.get(name, name): value for name, value in patterns.items()})
    if getattr(config, "use_rslora", False) and any(_SINGLE_EXPERT.search(name) for name in tensors):
        # peft fuses two experts' matrices into one of twice the rank and alpha, which keeps alpha / r, not alpha / √r.
        config.use_rslora = False
        config.lora_alpha = config.lora_alpha * math.sqrt(config.r)


def _resize_vocabulary(model: PreTrainedModel, tensors: dict[str, Any], config: PeftConfig) -> None:
    """Resize a model's vocabulary to the size in the adapter's tensors, or to the last token that it trained."""
    trained = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or []
    rows = [row for one in (trained.values() if isinstance(trained, dict) else [trained]) for row in one]
    if rows and max(rows) >= len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(max(rows) + 1, mean_resizing=False)
    vocabulary = (model.get_input_embeddings(), model.get_output_embeddings())
    for module in (name for name, module in model.named_modules() if any(module is part for part in vocabulary)):
        for suffix, axis in (("weight", 0), ("base_layer.weight", 0), ("lora_embedding_A", 1), ("lora_B.weight", 0)):
            tensor = tensors.get(f"base_model.model.{module}.{suffix}")
            if tensor is not None and tensor.shape[axis] != len(vocabulary[0].weight):
                model.resize_token_embeddings(tensor.shape[axis], mean_resizing=False)


def _own_names(slot: Slot) -> set[str]:
    """Return the names under which an adapter may have saved a parameter of the base."""
    path, _, attribute = slot.name.rpartition(".")
    return {f"base_model.model.{path}.{attribute}", f"base_model.model.{path}.base_layer.{attribute}"}
