"""Where weights go between their files and the computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from deltadex.activations.compute import Compute


class Buffer(Protocol):
    """Memory for one unit's weights after the other.

    Attributes
    ----------
    compute
        Where the weights end up, and in what dtype those that are floats do.
    """

    compute: Compute

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a unit's tensors, ready to compute with until the next call."""


def buffer_for(compute: Compute) -> Buffer:
    """Return a buffer for the device of a computation."""
    return DeviceBuffer(compute) if compute.device.type == "cuda" else HostBuffer(compute)


class HostBuffer:
    """One piece of memory for every unit in turn: a fresh one each time would spend more on page faults than on work.

    What is in the dtype of the computation already is not copied.
    """

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self._memory = torch.empty(0, dtype=compute.dtype)

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors in the dtype of the computation."""
        dtype = self.compute.dtype
        cast = {name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.dtype != dtype}
        size = sum(tensors[name].numel() for name in cast)
        if size > len(self._memory):
            self._memory = torch.empty(0, dtype=dtype)  # before the larger one is there
            self._memory = torch.empty(size, dtype=dtype)
        held, start = dict(tensors), 0
        for name in cast:
            piece = self._memory[start : start + tensors[name].numel()]
            held[name] = piece.view(tensors[name].shape).copy_(tensors[name])
            start += tensors[name].numel()
        return held


class DeviceBuffer:
    """Pinned memory for two units in turn: one is on its way to the GPU while that computes with the other."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self._copying = torch.cuda.Stream(compute.device)
        self._turns = [_Turn(), _Turn()]

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return copies on the device; the files' dtype travels, and is cast there."""
        computing = torch.cuda.current_stream(self.compute.device)
        self._turns[0].computed.record(computing)
        self._turns.reverse()
        turn = self._turns[0]
        turn.computed.synchronize()  # also bounds how far the processor runs ahead, and so the device's memory
        staged = turn.stage(tensors)
        with torch.cuda.stream(self._copying):
            held = {name: self._send(tensor) for name, tensor in staged.items()}
        computing.wait_stream(self._copying)
        for tensor in held.values():
            tensor.record_stream(computing)
        return held

    def _send(self, pinned: torch.Tensor) -> torch.Tensor:
        sent = pinned.to(self.compute.device, non_blocking=True)
        return sent.to(self.compute.dtype) if sent.is_floating_point() else sent


class _Turn:
    """Pinned memory, and the moment at which nobody reads what came from it any more."""

    def __init__(self) -> None:
        self.computed = torch.cuda.Event()
        self._pinned = torch.empty(0, dtype=torch.uint8)

    def stage(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        starts, size = {}, 0
        for name, tensor in tensors.items():
            starts[name] = size
            size += -(-tensor.nbytes // 16) * 16  # as aligned as any dtype wants
        if size > len(self._pinned):
            self._pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        staged = {}
        for name, tensor in tensors.items():
            piece = self._pinned[starts[name] : starts[name] + tensor.nbytes]
            staged[name] = piece.view(tensor.dtype).view(tensor.shape).copy_(tensor)
        return staged
