"""Adapters of every type that peft knows, put around a model whose weights are elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from deltadex.activations.compute import Compute
from deltadex.activations.failures import first_line, is_out_of_memory
from deltadex.activations.mapped import MappedFiles
from deltadex.activations.readout import VirtualTokens
from deltadex.activations.units import Slot, slots_of
from deltadex.checkpoints.layout import LocalCheckpoint
from deltadex.errors import BaseMismatch

_NAME = "default"
_BELOW = "below"


class AdaptedModel:
    """A copy of the base with an adapter around it.

    Attributes
    ----------
    model
        The library's model with peft's layers inside.
    slots
        The parameters that still come from the base; an adapter may bring its own vocabulary.

    Raises
    ------
    BaseMismatch
        The adapter does not fit the model.
    """

    def __init__(self, model: PreTrainedModel, adapter: LocalCheckpoint, *, compute: Compute) -> None:
        self.model = model
        self._adapter = adapter
        tensors = _read(adapter, compute)
        _resize_vocabulary(model, tensors)
        slots = slots_of(model)
        try:
            self._peft = self._attach(tensors, slots, compute)
        except (ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise self._mismatch(f"cannot be attached to its base: {first_line(error)}") from error
        self.slots = [slot for slot in slots if not _own_names(slot) & tensors.keys()]

    @property
    def is_prompt(self) -> bool:
        """Whether it puts something before the probes instead of changing the model."""
        return bool(self._config.is_prompt_learning)

    def virtual_tokens(self, batch_size: int) -> VirtualTokens | None:
        """Return what a prompt adapter puts before each probe; None for every other type."""
        if not self.is_prompt:
            return None
        prompt = self._peft.get_prompt(batch_size=batch_size)
        if isinstance(prompt, torch.Tensor):
            return VirtualTokens(prompt.shape[1], embeddings=prompt)
        return VirtualTokens(self._config.num_virtual_tokens, cache=prompt)

    def _attach(self, tensors: dict[str, Any], slots: list[Slot], compute: Compute) -> PeftModel:
        self._config = PeftConfig.from_pretrained(self._adapter.folder, inference_mode=True)
        # What peft first puts into a LoRA layer is replaced at once: it need not exist. Other types compute from it.
        lean = self._config.peft_type == "LORA" and not self._config.trainable_token_indices
        if not lean:
            _rest(slots, compute)
        below = self._adapter.below
        if below is None:
            peft = PeftModel(self.model, self._config, _NAME, low_cpu_mem_usage=lean)
        else:
            underneath = PeftConfig.from_pretrained(below.folder, inference_mode=True)
            peft = PeftModel(self.model, underneath, _BELOW, low_cpu_mem_usage=True)
            peft.add_adapter(_NAME, self._config, low_cpu_mem_usage=True)
        _rest(slots, compute)
        self._fill(peft, tensors, _NAME)
        if below is not None:
            self._fill(peft, _read(below, compute), _BELOW)
            peft.base_model.set_adapter([_BELOW, _NAME], inference_mode=True)
        return peft.eval()

    def _fill(self, peft: PeftModel, tensors: dict[str, Any], name: str) -> None:
        loaded = set_peft_model_state_dict(peft, tensors, name, low_cpu_mem_usage=True)
        if peft.peft_config[name].is_prompt_learning:
            return
        prefix = peft.base_model.prefix
        lacking = [
            key for key in loaded.missing_keys if prefix in key and key.endswith((f".{name}", f".{name}.weight"))
        ]
        unused = [*loaded.unexpected_keys, *lacking]
        if unused:
            raise self._mismatch(f"{len(unused)} of its tensors have no place in its base, such as {unused[0]}")

    def _mismatch(self, reason: str) -> BaseMismatch:
        return BaseMismatch(
            f"The adapter {self._adapter.folder}: {reason}",
            hint="Declare the base that the adapter was really trained on.",
        )


def _rest(slots: list[Slot], compute: Compute) -> None:
    stand_in = compute.stand_in()
    for slot in slots:
        slot.rest(stand_in)


def is_adapted(module: nn.Module) -> bool:
    """Tell whether an adapter has put anything into a module."""
    return any(isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper) for part in module.modules())


def _read(adapter: LocalCheckpoint, compute: Compute) -> dict[str, Any]:
    """Return an adapter's tensors without the copies that peft adds under two more names to resized embeddings."""
    files, copies = MappedFiles(), (".modules_to_save.weight", ".original_module.weight")
    tensors = {name: files.tensor(stored) for name, stored in adapter.tensors().items() if not name.endswith(copies)}
    return {
        name: tensor.to(compute.device, compute.dtype if tensor.is_floating_point() else None, copy=True)
        for name, tensor in tensors.items()
    }


def _resize_vocabulary(model: PreTrainedModel, tensors: dict[str, Any]) -> None:
    """Give a model as many rows as an adapter's own vocabulary has, where the adapter says so."""
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
