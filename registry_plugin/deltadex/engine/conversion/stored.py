"""Safetensors files of a quantized model, as the methods read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from deltadex.checkpoints.architectures import sections
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.quantization import quantization_of
from deltadex.engine.conversion.plain_tensor import PlainTensor
from deltadex.engine.weights.mapped import MappedFiles
from deltadex.errors import BrokenCheckpoint

#: Models with layers that store matrices as (inputs, outputs). Quantizers turn them into plain linear layers.
_INPUTS_FIRST = ("gpt2", "openai-gpt")


class StoredWeights:
    """The tensors of a quantized model, by name, and the settings of its quantization.

    Attributes
    ----------
    settings
        The `quantization_config`.
    """

    def __init__(self, checkpoint: LocalCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.tensors = checkpoint.tensors()
        config = checkpoint.read_config()
        named = (quantization_of(section) for section in sections(config))
        self.settings: Mapping[str, Any] = next(filter(None, named), {})
        self._inputs_first = config.get("model_type") in _INPUTS_FIRST
        self._files = MappedFiles()

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor as it is stored: a view of its file.

        Raises
        ------
        BrokenCheckpoint
            The files don't hold it.
        """
        if name not in self.tensors:
            raise BrokenCheckpoint(
                f"{self.checkpoint} lacks {name}, without which its quantized weights can't be read",
                hint="Was the upload complete? Quantize the model again.",
            )
        return self._files.tensor(self.tensors[name])

    def unchanged(self, name: str) -> PlainTensor:
        """Return a tensor that is not quantized."""
        tensor = self.load(name)
        return PlainTensor(name, tuple(tensor.shape), tensor.dtype, lambda: self.load(name))

    def modules(self, suffix: str) -> list[str]:
        """Return the names of the modules that have a tensor with this suffix, in order."""
        return sorted(name.removesuffix(suffix) for name in self.tensors if name.endswith(suffix))

    def oriented(self, weights: PlainTensor) -> PlainTensor:
        """Return the `(outputs, inputs)` weights of a linear layer in the orientation that its model stores."""
        if not self._inputs_first or weights.name.startswith("lm_head."):
            return weights
        return replace(weights, shape=weights.shape[::-1], values=lambda: weights.values().T)

    def others(self, suffixes: tuple[str, ...]) -> list[PlainTensor]:
        """Return the tensors whose names have none of these suffixes, unchanged."""
        return [self.unchanged(name) for name in sorted(self.tensors) if not name.endswith(suffixes)]
