"""Buffers between the weight files and the computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from deltadex.engine.weights.compute import Compute


class Buffer(Protocol):
    """Memory that holds one unit's weights at a time.

    Attributes
    ----------
    compute
        Target device of the weights, and target dtype of the floats among them.
    """

    compute: Compute

    def prepare(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a unit's tensors on the device; they are valid until the next call."""


def buffer_for(compute: Compute) -> Buffer:
    """Return a buffer for the computation's device."""
    return DeviceBuffer(compute) if compute.device.type == "cuda" else HostBuffer(compute)


class HostBuffer:
    """One block of memory that all units reuse; with new memory for each unit, page faults would take most of the time.

    Tensors that already have the dtype of the computation are not copied.
    """

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self._memory = torch.empty(0, dtype=compute.dtype)

    def prepare(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors in the dtype of the computation."""
        dtype = self.compute.dtype
        to_cast = {name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.dtype != dtype}
        size = sum(tensors[name].numel() for name in to_cast)
        if size > len(self._memory):
            self._memory = torch.empty(0, dtype=dtype)  # free the old block before allocating the larger one
            self._memory = torch.empty(size, dtype=dtype)
        prepared, start = dict(tensors), 0
        for name in to_cast:
            piece = self._memory[start : start + tensors[name].numel()]
            prepared[name] = piece.view(tensors[name].shape).copy_(tensors[name])
            start += tensors[name].numel()
        return prepared


class DeviceBuffer:
    """Pinned memory for two units: one is copied to the GPU while the GPU computes with the other."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self._copying = torch.cuda.Stream(compute.device)
        self._stages = [_Stage(), _Stage()]

    def prepare(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return copies on the device; they are transferred in the files' dtype and cast there."""
        computing = torch.cuda.current_stream(self.compute.device)
        self._stages[0].computed.record(computing)
        self._stages.reverse()
        stage = self._stages[0]
        stage.computed.synchronize()  # also limits how far the CPU runs ahead, and so the device's memory use
        staged = stage.fill(tensors)
        with torch.cuda.stream(self._copying):
            prepared = {name: self._send(tensor) for name, tensor in staged.items()}
        computing.wait_stream(self._copying)
        for tensor in prepared.values():
            tensor.record_stream(computing)
        return prepared

    def _send(self, pinned: torch.Tensor) -> torch.Tensor:
        on_device = pinned.to(self.compute.device, non_blocking=True)
        return on_device.to(self.compute.dtype) if on_device.is_floating_point() else on_device


class _Stage:
    """Pinned memory, and the event after which it may be overwritten."""

    def __init__(self) -> None:
        self.computed = torch.cuda.Event()
        self._pinned = torch.empty(0, dtype=torch.uint8)

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        starts, size = {}, 0
        for name, tensor in tensors.items():
            starts[name] = size
            size += -(-tensor.nbytes // 16) * 16  # 16-byte alignment suits every dtype
        if size > len(self._pinned):
            self._pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        staged = {}
        for name, tensor in tensors.items():
            piece = self._pinned[starts[name] : starts[name] + tensor.nbytes]
            staged[name] = piece.view(tensor.dtype).view(tensor.shape).copy_(tensor)
        return staged
