"""What to compute in."""

from __future__ import annotations

import time

import torch
from torch.nn.functional import linear

#: bfloat16 blurs a weak finetune's delta, so it must be worth it.
_WORTH_IT = 2.0


def resolve_dtype(name: str) -> torch.dtype:
    """Return the dtype of a name; `auto` is bfloat16 where this machine multiplies at least twice as fast in it."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    return torch.bfloat16 if _seconds(torch.float32) >= _WORTH_IT * _seconds(torch.bfloat16) else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """Return the best of a few products of the shape that five probes meet in a layer."""
    states, weights = torch.ones(225, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)
    timings = []
    with torch.inference_mode():
        for _ in range(5):
            started = time.perf_counter()
            linear(states, weights)
            timings.append(time.perf_counter() - started)
    return min(timings)
