"""Many forward passes over one stored model, hand in hand: each unit's weights are read and upcast once, for all.

Every pass is an ordinary `forward` of the library's model, in a greenlet of its own. Before a unit it waits; when all
passes that need the unit have arrived, its weights are loaded, and the passes go through it one after another. So a
pass computes with the same shapes, and to the last bit the same numbers, whoever else is there.
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

from deltadex.activations.buffers import Buffer
from deltadex.activations.job import OnProgress
from deltadex.activations.stored_model import StoredModel
from deltadex.activations.units import Unit

_READ_AHEAD_BYTES = 256 << 20


class Pass(Protocol):
    """One forward pass."""

    @property
    def units(self) -> Sequence[Unit]:
        """The parts of its model, which is nobody else's."""

    def run(self) -> Any:
        """Run the model; this waits at every unit."""


class Lockstep:
    """Runs passes over one stored model.

    Parameters
    ----------
    buffer
        Where weights are upcast into; nobody else uses it meanwhile.
    on_progress
        Called with each unit's key and the bytes of weights that were read for it.

    Attributes
    ----------
    visited
        Keys of the units in the order in which they were computed.
    """

    def __init__(self, stored: StoredModel, buffer: Buffer, *, on_progress: OnProgress) -> None:
        self._stored = stored
        self._buffer = buffer
        self._on_progress = on_progress
        self._hooks: list[RemovableHandle] = []
        self._asked_for: set[str] = set()
        self.visited: list[str] = []

    def run(self, passes: Sequence[Pass], *, order: Sequence[Unit]) -> list[Any]:
        """Return what each pass returned, or the exception that ended it: one bad pass stops no other.

        Parameters
        ----------
        order
            The units of the model without any adapter, roughly as they compute.
        """
        results: dict[greenlet, Any] = {}
        waiting: dict[greenlet, Unit] = {}

        def go_on(worker: greenlet, *arguments: Any) -> None:
            unit = worker.switch(*arguments)
            if worker.dead:
                results[worker] = unit
            else:
                waiting[worker] = unit

        workers = [greenlet(_result_of) for _ in passes]
        with torch.inference_mode(), self._released():
            for worker, one in zip(workers, passes, strict=True):
                self._attach(one.units)
                go_on(worker, one.run)
            position = {unit.key: number for number, unit in enumerate(order)}
            while waiting:
                key = min((unit.key for unit in waiting.values()), key=lambda key: position.get(key, -1))
                here = [(worker, unit) for worker, unit in waiting.items() if unit.key == key]
                tensors = self._load(here[0][1], islice(order, position.get(key, -1) + 1, None))
                for worker, unit in here:
                    unit.fill(tensors)
                    del waiting[worker]
                    go_on(worker)
                self._release(here[0][1])
        return [results[worker] for worker in workers]

    def _attach(self, units: Iterable[Unit]) -> None:
        stand_in = self._buffer.compute.stand_in()
        for unit in units:
            unit.empty(stand_in)
            before = self._take_rows(unit) if unit.rows_only else _wait(unit)
            self._hooks.append(unit.module.register_forward_pre_hook(before))
            after = partial(_empty, unit, stand_in)
            self._hooks.append(unit.module.register_forward_hook(after, always_call=True))

    @contextmanager
    def _released(self) -> Iterator[None]:
        """Take the hooks off again: they would keep models alive until the collector comes by."""
        try:
            yield
        finally:
            for hook in self._hooks:
                hook.remove()

    def _load(self, unit: Unit, ahead: Iterable[Unit]) -> Mapping[str, torch.Tensor]:
        origins = self._stored.origins
        self._stored.check_present(self._stored.missing.intersection(unit.names))
        self._read_ahead(unit for unit in ahead if not unit.rows_only)
        names = [name for name in unit.names if name in origins]
        self.visited.append(unit.key)
        self._on_progress(unit.key, sum(origins[name].nbytes for name in names))
        return self._buffer.hold({name: self._stored.load(name) for name in names})

    def _read_ahead(self, coming: Iterable[Unit]) -> None:
        origins, budget = self._stored.origins, _READ_AHEAD_BYTES
        for unit in coming:
            if budget <= 0:
                return
            needed = [origins[name] for name in unit.names if name in origins]
            budget -= sum(origin.nbytes for origin in needed)
            if unit.key not in self._asked_for:
                self._asked_for.add(unit.key)
                for origin in needed:
                    self._stored.files.will_need(origin.stored)

    def _release(self, unit: Unit) -> None:
        for name in unit.names:
            if name in self._stored.origins:
                self._stored.files.release(self._stored.origins[name].stored)

    def _take_rows(self, unit: Unit) -> Callable[..., Any]:
        """Return a hook that reads the rows of the ids at hand and numbers the ids anew, so that they fit."""
        vars(unit.module)["padding_idx"] = None  # only gradients look at it, but it must be a row

        def hook(_module: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            self.visited.append(unit.key)
            self._stored.check_present(self._stored.missing.intersection(unit.names))
            rows, numbers = torch.unique(arguments[0], return_inverse=True)
            names = [name for name in unit.names if name in self._stored.origins]
            compute, rows = self._buffer.compute, rows.cpu()
            unit.fill({name: self._stored.load(name)[rows].to(compute.device, compute.dtype) for name in names})
            return (numbers, *arguments[1:])

        return hook


def _wait(unit: Unit) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        getcurrent().parent.switch(unit)

    return hook


def _empty(unit: Unit, stand_in: torch.Tensor, *_: Any) -> None:
    unit.empty(stand_in)


def _result_of(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - returned to whoever asked for this pass
        return error
