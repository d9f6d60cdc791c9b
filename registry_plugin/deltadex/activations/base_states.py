"""What a base itself makes of the probes, kept: so that a finetune costs one pass, and often less than one.

With the states after every layer at hand, a finetune whose first layers are the base's starts behind them.
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

from deltadex.activations.mapped import MappedFiles
from deltadex.checkpoints.tensors import read_tensors
from deltadex.domain import EmbeddingMethod, FloatArray
from deltadex.errors import BrokenCheckpoint

#: Bases whose states are kept: 30 MB each at a billion parameters, 600 MB at 70 billion.
_KEPT = 16


@dataclass(frozen=True, eq=False)
class BaseStates:
    """The answers of a base.

    Attributes
    ----------
    states
        `(n_probes, hidden_size)` float32: what is read off for each probe.
    after_layers
        `(n_probes, n_tokens, hidden_size)` after each layer; empty where a layer's answer is not a plain tensor, or
        where running on from one of them did not give `states` to the last bit.
    order
        Keys of the units in the order in which they computed.
    noise_floor
        Largest distance of a probe's state from what is computed for it alone, in float32, with another number of
        threads; in units of the mean norm of `states`. Differences below it mean nothing.
    """

    states: FloatArray
    after_layers: tuple[torch.Tensor, ...]
    order: tuple[str, ...]
    noise_floor: float

    @property
    def norm(self) -> float:
        """Mean L2 norm of `states`."""
        return float(np.linalg.norm(self.states, axis=1).mean())

    def write(self, file: Path) -> None:
        """Write everything into one file, which appears when it is complete; the least used of many others go."""
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"states": torch.from_numpy(self.states)}
        tensors |= {f"after.{number:04}": state.cpu().contiguous() for number, state in enumerate(self.after_layers)}
        described = {"order": json.dumps(self.order), "noise_floor": repr(self.noise_floor)}
        unfinished = file.with_suffix(f".{os.getpid()}")
        save_file(tensors, unfinished, metadata=described)
        unfinished.replace(file)
        by_use = sorted(file.parent.glob("*.safetensors"), key=lambda other: other.stat().st_mtime, reverse=True)
        for least_used in by_use[_KEPT:]:
            least_used.unlink(missing_ok=True)

    @classmethod
    def read(cls, file: Path) -> BaseStates | None:
        """Return what `write` wrote, the states after the layers still in the file; None where there is none."""
        try:
            os.utime(file)
            with safe_open(file, framework="pt") as content:
                described = content.metadata()
            tensors, files = read_tensors([file]), MappedFiles()
            after = tuple(files.tensor(tensors[name]) for name in sorted(tensors) if name.startswith("after."))
            states = files.tensor(tensors["states"]).numpy().copy()
            return cls(states, after, tuple(json.loads(described["order"])), float(described["noise_floor"]))
        except (OSError, SafetensorError, BrokenCheckpoint, ValueError, KeyError, TypeError):
            return None


def states_key(base_digest: str, method: EmbeddingMethod, machine: Sequence[object]) -> str:
    """Return a name for the states of a base that no other recipe, machine type or library version shares."""
    made_by = {
        "base": base_digest,
        "method": asdict(method),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": machine,
    }
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]


class Layers:
    """The layers of a model: the elements of its largest list of modules, and the units inside them."""

    def __init__(self, model: nn.Module) -> None:
        lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        sizes = [sum(parameter.numel() for parameter in module.parameters()) for _, module in lists]
        largest: tuple[str, nn.ModuleList] = lists[sizes.index(max(sizes))] if lists else ("", nn.ModuleList())
        self._path, self._modules = largest

    def record(self) -> list[torch.Tensor]:
        """Return a list that fills with what each layer answers, while the model runs."""
        answers: list[torch.Tensor] = []
        for layer in self._modules:
            layer.register_forward_hook(lambda _layer, _arguments, answer: answers.append(answer))
        return answers

    def __len__(self) -> int:
        return len(self._modules)

    def first_changed(self, changed: Collection[str], order: Sequence[str]) -> int | None:
        """Return the first layer that a change can reach; None where nothing that computes is changed."""
        reached = next((key for key in order if key in changed), None)
        if reached is None:
            return None
        seen = order[: order.index(reached) + 1]
        inside = [int(key.removeprefix(f"{self._path}.").split(".")[0]) for key in seen if self._holds(key)]
        return max(inside, default=0) + (0 if self._holds(reached) or not inside else 1)

    def start_at(self, number: int, states: torch.Tensor) -> None:
        """Let the layers before one be passed by: the last of them answers with these states."""
        for layer in self._modules[:number]:
            layer.forward = lambda *_arguments, **_named: states

    def _holds(self, key: str) -> bool:
        return bool(self._path) and key.startswith(f"{self._path}.")
