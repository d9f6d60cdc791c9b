"""On-disk cache of a base's hidden states for the probes, so that a finetune costs at most one pass.

The cache also holds the states after every layer: a finetune whose first layers equal the base's resumes after them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from deltadex.checkpoints.tensors import read_tensors
from deltadex.engine.weights.mapped import MappedFiles
from deltadex.errors import BrokenCheckpoint
from deltadex.types import EmbeddingMethod, FloatArray

#: Maximum number of cached bases: 30 MB each at a billion parameters, 600 MB at 70 billion.
_MAX_FILES = 16


@dataclass(frozen=True, eq=False)
class BaseStates:
    """A base's hidden states for the probes.

    Attributes
    ----------
    states
        `(n_probes, hidden_size)` float32: the readout of each probe.
    after_layers
        `(n_probes, n_tokens, hidden_size)` after each layer; empty where a layer's output is not a plain tensor, or
        where resuming from one of them did not reproduce `states` to the last bit.
    order
        Keys of the units in execution order.
    noise_floor
        Largest distance between a probe's state and the state computed for that probe alone, in float32, with another
        number of threads; in units of the mean norm of `states`. Smaller differences are noise.
    read_alone
        True where each probe was read alone, because the model does not hide the padding of a batch.
    """

    states: FloatArray
    after_layers: tuple[torch.Tensor, ...]
    order: tuple[str, ...]
    noise_floor: float
    read_alone: bool = False

    @property
    def norm(self) -> float:
        """Mean L2 norm of `states`."""
        return float(np.linalg.norm(self.states, axis=1).mean())

    def write(self, file: Path) -> None:
        """Write the states atomically to one file, and delete the least recently used files beyond the limit."""
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"states": torch.from_numpy(self.states).clone()}  # without a final norm, a view of the last layer
        tensors |= {f"after.{number:04}": state.cpu().contiguous() for number, state in enumerate(self.after_layers)}
        metadata = {"order": json.dumps(self.order), "noise_floor": repr(self.noise_floor)}
        metadata["read_alone"] = json.dumps(self.read_alone)
        unfinished = file.with_suffix(f".{os.getpid()}")
        save_file(tensors, unfinished, metadata=metadata)
        unfinished.replace(file)
        by_last_use = sorted(file.parent.glob("*.safetensors"), key=lambda other: other.stat().st_mtime, reverse=True)
        for least_used in by_last_use[_MAX_FILES:]:
            least_used.unlink(missing_ok=True)

    @classmethod
    def read(cls, file: Path) -> BaseStates | None:
        """Read a file of `write`, with `after_layers` mapped from it; return None if there is no readable file."""
        try:
            os.utime(file)
            with safe_open(file, framework="pt") as content:
                metadata = content.metadata()
            tensors, files = read_tensors([file]), MappedFiles()
            after_layers = tuple(files.tensor(tensors[name]) for name in sorted(tensors) if name.startswith("after."))
            states = files.tensor(tensors["states"]).numpy().copy()
            order, read_alone = (json.loads(metadata[name]) for name in ("order", "read_alone"))
            return cls(states, after_layers, tuple(order), float(metadata["noise_floor"]), read_alone)
        except (OSError, SafetensorError, BrokenCheckpoint, ValueError, KeyError, TypeError):
            return None


def states_key(base_digest: str, method: EmbeddingMethod, machine: Sequence[object]) -> str:
    """Return a cache key for a base's states, unique per recipe, machine type and library version."""
    identity = {
        "base": base_digest,
        "method": asdict(method),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": machine,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


class Layers:
    """The layers of a model, which are the elements of its largest `ModuleList`."""

    def __init__(self, model: nn.Module) -> None:
        lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        sizes = [sum(parameter.numel() for parameter in module.parameters()) for _, module in lists]
        largest: tuple[str, nn.ModuleList] = lists[sizes.index(max(sizes))] if lists else ("", nn.ModuleList())
        self._path, self._modules = largest

    def record(self) -> list[torch.Tensor]:
        """Return a list that collects each layer's output while the model runs."""
        outputs: list[torch.Tensor] = []
        for layer in self._modules:
            layer.register_forward_hook(lambda _layer, _arguments, output: outputs.append(output))
        return outputs

    def __len__(self) -> int:
        return len(self._modules)

    def first_changed(self, changed: Collection[str], order: Sequence[str]) -> int | None:
        """Return the number of the first layer that a change can affect; None if no executed unit is changed."""
        first_key = next((key for key in order if key in changed), None)
        if first_key is None:
            return None
        executed = order[: order.index(first_key) + 1]
        layers = [int(key.removeprefix(f"{self._path}.").split(".")[0]) for key in executed if self._holds(key)]
        return max(layers, default=0) + (0 if self._holds(first_key) or not layers else 1)

    def start_at(self, number: int, states: torch.Tensor) -> None:
        """Skip the layers before `number`: each returns `states` unchanged."""
        for layer in self._modules[:number]:
            layer.forward = lambda *_arguments, **_keywords: states

    def _holds(self, key: str) -> bool:
        return bool(self._path) and key.startswith(f"{self._path}.")
