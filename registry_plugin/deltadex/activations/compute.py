"""Where to compute, and in what."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

#: bfloat16 blurs a weak finetune's delta, so it must be worth it.
_WORTH_IT = 2.0


@dataclass(frozen=True)
class Compute:
    """What every tensor of a computation has in common."""

    dtype: torch.dtype
    device: torch.device

    @classmethod
    def resolve(cls, dtype: str, device: str) -> Compute:
        """Return what settings ask for; `auto` is a GPU where there is one, and bfloat16 where it is twice as fast."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        exact, short = (cls(dtype, torch.device(device)) for dtype in (torch.float32, torch.bfloat16))
        if dtype == "auto":
            return short if exact._seconds() >= _WORTH_IT * short._seconds() else exact
        return short if dtype == "bfloat16" else exact

    @property
    def machine(self) -> tuple[str, str, int]:
        """What the last bits of a result depend on besides dtype and library."""
        if self.device.type == "cuda":
            return platform.machine(), torch.cuda.get_device_name(self.device), 0
        return platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()

    def stand_in(self) -> torch.Tensor:
        """Return the one NaN that stands for any parameter at rest."""
        return torch.full((1,), math.nan, dtype=self.dtype, device=self.device)

    def _seconds(self) -> float:
        """Return the best of a few products of the shape that five probes meet in a layer."""
        states = torch.ones(225, 2048, dtype=self.dtype, device=self.device)
        weights = torch.ones(2048, 2048, dtype=self.dtype, device=self.device)
        timings = []
        with torch.inference_mode():
            for _ in range(5):
                started = time.perf_counter()
                linear(states, weights).sum().item()
                timings.append(time.perf_counter() - started)
        return min(timings)
