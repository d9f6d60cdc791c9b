"""Device and dtype of a computation."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

#: Minimum speedup for bfloat16, because its rounding blurs the delta of a weak finetune.
_MIN_SPEEDUP = 2.0


@dataclass(frozen=True)
class Compute:
    """The dtype and device of all tensors of a computation."""

    dtype: torch.dtype
    device: torch.device

    @classmethod
    def resolve(cls, dtype: str, device: str) -> Compute:
        """Resolve the settings: `auto` means a GPU if available, and bfloat16 if it is twice as fast."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        full, half = (cls(dtype, torch.device(device)) for dtype in (torch.float32, torch.bfloat16))
        if dtype == "auto":
            return half if full._seconds() >= _MIN_SPEEDUP * half._seconds() else full
        return half if dtype == "bfloat16" else full

    @property
    def machine(self) -> tuple[str, str, int]:
        """Machine properties that affect the last bits of a result: architecture, processor or GPU, threads."""
        if self.device.type == "cuda":
            return platform.machine(), torch.cuda.get_device_name(self.device), 0
        return platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()

    def placeholder(self) -> torch.Tensor:
        """Return a single NaN, expanded to the shape of every unloaded parameter."""
        return torch.full((1,), math.nan, dtype=self.dtype, device=self.device)

    def _seconds(self) -> float:
        """Return the seconds of a matrix product of the size of five probes in a layer, as the fastest of five runs."""
        states = torch.ones(225, 2048, dtype=self.dtype, device=self.device)
        weights = torch.ones(2048, 2048, dtype=self.dtype, device=self.device)
        timings = []
        with torch.inference_mode():
            for _ in range(5):
                started = time.perf_counter()
                linear(states, weights).sum().item()
                timings.append(time.perf_counter() - started)
        return min(timings)
