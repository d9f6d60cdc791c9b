"""Forward passes that run in lockstep over one stored model: each unit's weights are read and upcast once for all.

Every pass is an ordinary `forward` of a transformers model, in its own greenlet, and waits before each unit. When all
passes that need the unit have arrived, its weights are loaded, and the passes run through it one after another. So a
pass computes with the same shapes, and gets bit-identical results, with or without other passes beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from greenlet import getcurrent, greenlet
from torch.utils.hooks import RemovableHandle

from deltadex.engine.messages import OnProgress
from deltadex.engine.weights.buffers import Buffer
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.units import Unit

_READ_AHEAD_BYTES = 256 << 20


class Pass(Protocol):
    """One forward pass."""

    @property
    def units(self) -> Sequence[Unit]:
        """The units of the pass's own copy of the model."""

    def run(self) -> Any:
        """Run the model; it pauses before every unit."""


class Lockstep:
    """Runs passes over one stored model.

    Parameters
    ----------
    buffer
        Memory for the upcast weights; used exclusively while passes run.
    on_progress
        Called with each unit's key and the bytes of weights read for it.

    Attributes
    ----------
    visited
        Keys of the units in execution order.
    """

    def __init__(self, stored: StoredModel, buffer: Buffer, *, on_progress: OnProgress) -> None:
        self._stored = stored
        self._buffer = buffer
        self._on_progress = on_progress
        self._hooks: list[RemovableHandle] = []
        self._prefetched: set[str] = set()
        self.visited: list[str] = []

    def run(self, passes: Sequence[Pass], *, order: Sequence[Unit]) -> list[Any]:
        """Return each pass's result, or the exception that ended it; a failed pass does not stop the others.

        Parameters
        ----------
        order
            The units of the model without an adapter, roughly in execution order.
        """
        results: dict[greenlet, Any] = {}
        waiting: dict[greenlet, Unit] = {}

        def resume(worker: greenlet, *arguments: Any) -> None:
            unit_or_result = worker.switch(*arguments)
            if worker.dead:
                results[worker] = unit_or_result
            else:
                waiting[worker] = unit_or_result

        workers = [greenlet(_result_of) for _ in passes]
        with torch.inference_mode(), self._temporary_hooks():
            for worker, one_pass in zip(workers, passes, strict=True):
                self._add_hooks(one_pass.units)
                resume(worker, one_pass.run)
            position = {unit.key: number for number, unit in enumerate(order)}
            while waiting:
                key = min((unit.key for unit in waiting.values()), key=lambda key: position.get(key, -1))
                arrived = [(worker, unit) for worker, unit in waiting.items() if unit.key == key]
                tensors = self._load(arrived[0][1], islice(order, position.get(key, -1) + 1, None))
                for worker, unit in arrived:
                    unit.fill(tensors)
                    del waiting[worker]
                    resume(worker)
                self._release(arrived[0][1])
        return [results[worker] for worker in workers]

    def _add_hooks(self, units: Iterable[Unit]) -> None:
        placeholder = self._buffer.compute.placeholder()
        for unit in units:
            unit.empty(placeholder)
            before = self._load_rows_hook(unit) if unit.rows_only else _wait_hook(unit)
            self._hooks.append(unit.module.register_forward_pre_hook(before))
            after = partial(_empty, unit, placeholder)
            self._hooks.append(unit.module.register_forward_hook(after, always_call=True))

    @contextmanager
    def _temporary_hooks(self) -> Iterator[None]:
        """Remove the hooks after the block: they would keep models alive until the next garbage collection."""
        try:
            yield
        finally:
            for hook in self._hooks:
                hook.remove()

    def _load(self, unit: Unit, ahead: Iterable[Unit]) -> Mapping[str, torch.Tensor]:
        origins = self._stored.origins
        self._stored.refuse_missing(self._stored.missing.intersection(unit.names))
        self._read_ahead(unit for unit in ahead if not unit.rows_only)
        names = [name for name in unit.names if name in origins]
        self.visited.append(unit.key)
        self._on_progress(unit.key, sum(origins[name].nbytes for name in names))
        return self._buffer.prepare({name: self._stored.load(name) for name in names})

    def _read_ahead(self, upcoming: Iterable[Unit]) -> None:
        origins, budget = self._stored.origins, _READ_AHEAD_BYTES
        for unit in upcoming:
            if budget <= 0:
                return
            needed = [origins[name] for name in unit.names if name in origins]
            budget -= sum(origin.nbytes for origin in needed)
            if unit.key not in self._prefetched:
                self._prefetched.add(unit.key)
                for origin in needed:
                    self._stored.files.will_need(origin.stored)

    def _release(self, unit: Unit) -> None:
        for name in unit.names:
            if name in self._stored.origins:
                self._stored.files.release(self._stored.origins[name].stored)

    def _load_rows_hook(self, unit: Unit) -> Callable[..., Any]:
        """Return a hook that loads only the rows of the input ids, and renumbers the ids to index those rows."""
        vars(unit.module)["padding_idx"] = None  # used only for gradients, but torch checks that it is a valid row

        def hook(_module: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            self.visited.append(unit.key)
            self._stored.refuse_missing(self._stored.missing.intersection(unit.names))
            rows, new_ids = torch.unique(arguments[0], return_inverse=True)
            names = [name for name in unit.names if name in self._stored.origins]
            compute, rows = self._buffer.compute, rows.cpu()
            unit.fill({name: self._stored.load(name)[rows].to(compute.device, compute.dtype) for name in names})
            return (new_ids, *arguments[1:])

        return hook


def _wait_hook(unit: Unit) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        getcurrent().parent.switch(unit)

    return hook


def _empty(unit: Unit, placeholder: torch.Tensor, *_: Any) -> None:
    unit.empty(placeholder)


def _result_of(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - `run` returns it as this pass's result
        return error
