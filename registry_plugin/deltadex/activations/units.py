"""The parts of a model that get their weights together, compute, and let them go again.

A unit is a module with parameters of its own, or what peft wrapped around one. At rest its parameters are stand-ins:
the right shape and dtype, no memory, every value NaN. A parent that reaches for a child's weight past its `forward`
(some architectures do) thus gets NaN and never a plausible number; `whole_layers` then gives such a model its weights a
layer at a time.
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
    """One parameter of one module, and the name under which the base's files know it."""

    module: nn.Module
    attribute: str
    name: str
    shape: tuple[int, ...]

    def rest(self, stand_in: torch.Tensor) -> None:
        """Put one NaN there, in the parameter's shape."""
        self.module._parameters[self.attribute] = _parameter(stand_in.expand(self.shape))


@dataclass(frozen=True)
class Unit:
    """What is loaded at once.

    Attributes
    ----------
    key
        The same for this part in every copy of the model, with or without an adapter around it.
    module
        The module whose `forward` needs the weights.
    rows_only
        An embedding, of which only the rows of the tokens at hand are read.
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
        """Put weights in; what an adapter brings itself is there already."""
        for slot in self.slots:
            if slot.name in tensors:
                slot.module._parameters[slot.attribute] = _parameter(tensors[slot.name])

    def empty(self, stand_in: torch.Tensor) -> None:
        """Put the stand-ins back."""
        for slot in self.slots:
            slot.rest(stand_in)


def slots_of(model: nn.Module) -> list[Slot]:
    """Return every parameter of a model that peft has not touched yet."""
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
        The parameters that belong to the base, as `slots_of` saw them before there was an adapter.
    whole_layers
        Take each element of an outermost list of layers as one unit.
    """
    by_module: dict[nn.Module, list[Slot]] = {}
    for slot in slots:
        by_module.setdefault(slot.module, []).append(slot)
    gathered: dict[nn.Module, list[Slot]] = {}
    for module, around in _walk(model, None, whole_layers=whole_layers):
        gathered.setdefault(around, []).extend(by_module.pop(module, ()))
    return [_unit(module, tuple(held)) for module, held in gathered.items() if held]


def _walk(module: nn.Module, around: nn.Module | None, *, whole_layers: bool) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each module with the outermost one that needs its weights."""
    if around is None and isinstance(module, BaseTunerLayer | TrainableTokensWrapper):
        around = module
    yield module, around or module
    if isinstance(module, ModulesToSaveWrapper):
        return  # the adapter's own copy computes, and the original never does
    for child in module.children():
        layer = child if whole_layers and isinstance(module, nn.ModuleList) else None
        yield from _walk(child, around or layer, whole_layers=whole_layers)


def _unit(module: nn.Module, slots: tuple[Slot, ...]) -> Unit:
    # The number tells a whole layer from its first part.
    return Unit(
        f"{slots[0].name}+{len(slots) - 1}",
        module,
        slots,
        rows_only=isinstance(module, nn.Embedding) and _looks_rows_up(module),
    )


def _looks_rows_up(module: nn.Embedding) -> bool:
    """Tell whether the ids that come in are row numbers; some position embeddings shift them first."""
    return type(module).forward is nn.Embedding.forward or "Scaled" in type(module).__name__


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
