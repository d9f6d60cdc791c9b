"""Units: the parts of a model whose weights are loaded and released together.

A unit is a module with its own parameters, or peft's wrapper around one. While a unit is not loaded, its parameters are
placeholders with the right shape and dtype that take no memory and are NaN everywhere. Some architectures read a
child's weight directly instead of calling its `forward`; they get NaN, never a plausible number. The weights of such a
model are then loaded one layer at a time (`whole_layers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import nn


@dataclass(frozen=True)
class Slot:
    """One parameter of one module, with its name in the base."""

    module: nn.Module
    attribute: str
    name: str
    shape: tuple[int, ...]

    def empty(self, placeholder: torch.Tensor) -> None:
        """Replace the parameter with the placeholder, expanded to its shape."""
        self.put(placeholder.expand(self.shape))

    def fill(self, tensor: torch.Tensor) -> None:
        """Replace the parameter with the base's, and with zeros in rows that only an adapter has."""
        self.put(_with_rows(tensor, self.shape))

    def put(self, tensor: torch.Tensor) -> None:
        """Replace the parameter with a tensor as it is."""
        self.module._parameters[self.attribute] = nn.Parameter(tensor, requires_grad=False)


@dataclass(frozen=True)
class Unit:
    """A part of a model whose weights are loaded at once.

    Attributes
    ----------
    key
        Equal for the same part in every copy of the model, with or without an adapter.
    module
        The module whose `forward` needs the weights.
    rows_only
        True for an embedding that needs only the rows of the input tokens.
    """

    key: str
    module: nn.Module
    slots: tuple[Slot, ...]
    rows_only: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names in the base."""
        return tuple(slot.name for slot in self.slots)

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill in the weights of the base; those of an adapter are already loaded."""
        for slot in self.slots:
            if slot.name in tensors:
                (slot.put if self.rows_only else slot.fill)(tensors[slot.name])

    def empty(self, placeholder: torch.Tensor) -> None:
        """Replace all parameters with the placeholder."""
        for slot in self.slots:
            slot.empty(placeholder)


def slots_of(model: nn.Module) -> list[Slot]:
    """Return every parameter of a model that has no adapter yet."""
    return [
        Slot(module, attribute, f"{path}.{attribute}".lstrip("."), tuple(parameter.shape))
        for path, module in model.named_modules()
        for attribute, parameter in module._parameters.items()
        if parameter is not None
    ]


def units_of(model: nn.Module, slots: Sequence[Slot], *, whole_layers: bool) -> list[Unit]:
    """Divide a model, with or without an adapter around its parts, into units.

    Parameters
    ----------
    slots
        The parameters of the base, as `slots_of` returned them before an adapter was attached.
    whole_layers
        Make each element of an outermost `ModuleList` one unit.
    """
    by_module: dict[nn.Module, list[Slot]] = {}
    for slot in slots:
        by_module.setdefault(slot.module, []).append(slot)
    by_unit: dict[nn.Module, list[Slot]] = {}
    for module, outer in _walk(model, None, whole_layers=whole_layers):
        by_unit.setdefault(outer, []).extend(by_module.pop(module, ()))
    return [_unit(module, tuple(own_slots)) for module, own_slots in by_unit.items() if own_slots]


def _walk(module: nn.Module, outer: nn.Module | None, *, whole_layers: bool) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each module with the outermost module that needs its weights."""
    if outer is None and isinstance(module, BaseTunerLayer | TrainableTokensWrapper):
        outer = module
    yield module, outer or module
    if isinstance(module, ModulesToSaveWrapper):
        return  # only the adapter's own copy is used, never the original
    for child in module.children():
        layer = child if whole_layers and isinstance(module, nn.ModuleList) else None
        yield from _walk(child, outer or layer, whole_layers=whole_layers)


def _unit(module: nn.Module, slots: tuple[Slot, ...]) -> Unit:
    # The number of slots distinguishes a whole layer from its first module.
    return Unit(
        f"{slots[0].name}+{len(slots) - 1}",
        module,
        slots,
        rows_only=isinstance(module, nn.Embedding) and _uses_ids_as_rows(module),
    )


def _uses_ids_as_rows(module: nn.Embedding) -> bool:
    """Return True if the input ids are row numbers; some position embeddings shift them first."""
    return type(module).forward is nn.Embedding.forward or "Scaled" in type(module).__name__


def _with_rows(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the tensor with zeros for rows that only an adapter has: tokens that it added."""
    missing = shape[0] - tensor.shape[0] if shape and tensor.shape[1:] == shape[1:] else 0
    return torch.cat([tensor, tensor.new_zeros(missing, *shape[1:])]) if missing > 0 else tensor
