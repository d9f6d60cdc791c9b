"""Hidden states of models over one set of weights: a base itself, and the base with each of many adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel

from deltadex.activations.adapters import AdaptedModel, is_adapted
from deltadex.activations.base_states import BaseStates, Layers
from deltadex.activations.buffers import Buffer, buffer_for
from deltadex.activations.failures import stated
from deltadex.activations.job import OnProgress, ignore_progress
from deltadex.activations.lockstep import Lockstep
from deltadex.activations.readout import Prompts, read
from deltadex.activations.stored_model import StoredModel
from deltadex.activations.units import Unit, slots_of, units_of
from deltadex.checkpoints.layout import LocalCheckpoint
from deltadex.domain import FloatArray
from deltadex.errors import DeltadexError, EmbeddingError

Reading = FloatArray | DeltadexError


@dataclass(frozen=True)
class Reader:
    """Reads the probes with models that share the weights of `stored`.

    Attributes
    ----------
    buffer
        Where weights go to compute, and in what dtype.
    base
        What the base made of the probes, where that is known: whoever begins like the base starts from there.
    identical
        Names of the tensors of `stored` that are the base's to the last bit; None for the base itself.
    on_progress
        Called with each unit's key and the bytes of weights that were read for it.
    """

    stored: StoredModel
    prompts: Prompts
    buffer: Buffer
    base: BaseStates | None = None
    identical: frozenset[str] | None = None
    on_progress: OnProgress = ignore_progress

    def read(self, adapters: Sequence[LocalCheckpoint | None]) -> list[Reading]:
        """Return, for each adapter and for None without one, `(n_probes, hidden_size)` float32 or what went wrong."""
        results = self._read(adapters, whole_layers=False)
        # NaN may come from a stand-in that somebody reached past its module (see units.py), or from the weights.
        again = [number for number, result in enumerate(results) if _holds_nan(result)]
        repeated = self._read([adapters[number] for number in again], whole_layers=True)
        for number, result in zip(again, repeated, strict=True):
            results[number] = result
        return [self._checked(result) for result in results]

    def read_base(self) -> BaseStates:
        """Read the base itself, and measure how far its states can be trusted.

        Raises
        ------
        DeltadexError
            It can't be read.
        """
        for whole_layers in (False, True):
            one = _started(self._pass(None, whole_layers))
            answers = one.layers.record()
            lockstep = self._lockstep()
            (result,) = lockstep.run([one], order=one.units)
            if not _holds_nan(result):
                break
        states = _read(self._checked(result))
        after = self._resumable(answers, states, whole_layers=whole_layers)
        floor = self._noise_floor(states, whole_layers=whole_layers)
        return BaseStates(states, after, tuple(lockstep.visited), floor)

    def _resumable(
        self, answers: Sequence[object], states: FloatArray, *, whole_layers: bool
    ) -> tuple[torch.Tensor, ...]:
        """Return the layers' answers if running on from the middle and the last one gives the same states exactly.

        The last layers are those that may use more of the first ones than the states between them.
        """
        tensors = tuple(answer for answer in answers if isinstance(answer, torch.Tensor))
        if len(tensors) < len(answers) or len(tensors) < 2:
            return ()
        for start in {len(tensors) // 2, len(tensors) - 1}:
            one = _started(self._pass(None, whole_layers))
            if len(one.layers) != len(tensors):
                return ()
            one.layers.start_at(start, tensors[start - 1])
            (result,) = self._lockstep().run([one], order=one.units)
            if not isinstance(result, np.ndarray) or not np.array_equal(result, states):
                return ()
        return tensors

    def _noise_floor(self, states: FloatArray, *, whole_layers: bool) -> float:
        """Return how far two probes move when each is read alone, in float32, with half of the threads."""
        compute = replace(self.buffer.compute, dtype=torch.float32)
        exact = self if self.buffer.compute == compute else replace(self, buffer=buffer_for(compute))
        alone, threads = self.prompts.alone(), torch.get_num_threads()
        lengths = [one.ids.shape[1] for one in alone]
        chosen = sorted({lengths.index(min(lengths)), lengths.index(max(lengths))})
        passes = [_started(replace(exact, prompts=alone[number])._pass(None, whole_layers)) for number in chosen]
        torch.set_num_threads(max(1, threads // 2))
        try:
            results = exact._lockstep().run(passes, order=passes[0].units)
        finally:
            torch.set_num_threads(threads)
        moved = [np.linalg.norm(result[0] - states[number]) for number, result in zip(chosen, results, strict=True)]
        return float(max(moved) / np.linalg.norm(states, axis=1).mean())

    def _read(self, adapters: Sequence[LocalCheckpoint | None], *, whole_layers: bool) -> list[Reading]:
        if not adapters:
            return []
        passes = [self._pass(adapter, whole_layers) for adapter in adapters]
        model = self.stored.new_model(self.buffer.compute.device)
        order = units_of(model, slots_of(model), whole_layers=whole_layers)
        if self.base is not None:  # modules are registered in another order than they compute
            computed = {key: number for number, key in enumerate(self.base.order)}
            order.sort(key=lambda unit: computed.get(unit.key, -1))
        results = iter(self._lockstep().run([one for one in passes if isinstance(one, _Pass)], order=order))
        return [next(results) if isinstance(one, _Pass) else one for one in passes]

    def _lockstep(self) -> Lockstep:
        return Lockstep(self.stored, self.buffer, on_progress=self.on_progress)

    def _pass(self, adapter: LocalCheckpoint | None, whole_layers: bool) -> _Pass | Reading:
        """Return a pass to run, or what came of it where there is nothing to run."""
        compute = self.buffer.compute
        model = self.stored.new_model(compute.device)
        try:
            self.prompts.check_vocabulary(model)
            adapted = None if adapter is None else AdaptedModel(model, adapter, compute=compute)
        except Exception as error:  # noqa: BLE001 - the next adapter may be a good one
            return stated(error, what=f"{adapter and adapter.folder} could not be put onto its base")
        units = units_of(model, slots_of(model) if adapted is None else adapted.slots, whole_layers=whole_layers)
        one = _Pass(model, adapted, self.prompts, units)
        if self.base is None or (adapted is not None and adapted.is_prompt):
            return one
        unchanged = {unit.key for unit in units if self._is_unchanged(unit)}
        first = one.layers.first_changed(set(self.base.order) - unchanged, self.base.order)
        if first is None:
            return self.base.states
        if first and self.base.after_layers:
            one.layers.start_at(first, self.base.after_layers[first - 1].to(compute.device))
        return one

    def _is_unchanged(self, unit: Unit) -> bool:
        if is_adapted(unit.module):
            return False
        if self.identical is None:
            return True
        origins = [self.stored.origins.get(name) for name in unit.names]
        return all(origin and {stored.name for stored in origin.stored} <= self.identical for origin in origins)

    def _checked(self, result: FloatArray | Exception) -> Reading:
        folder = self.stored.checkpoint.folder
        if isinstance(result, Exception):
            return stated(result, what=f"{folder} could not be run")
        if np.isfinite(result).all():
            return result
        return EmbeddingError(
            f"The hidden states of {folder} are not finite",
            hint="The weights hold NaN or infinity, or overflow: check the training run.",
        )


@dataclass(frozen=True, eq=False)
class _Pass:
    """A copy of the model that reads the probes once; implements `deltadex.activations.lockstep.Pass`."""

    model: PreTrainedModel
    adapted: AdaptedModel | None
    prompts: Prompts
    units: Sequence[Unit]

    @property
    def layers(self) -> Layers:
        return Layers(self.model)

    def run(self) -> FloatArray:
        virtual = None if self.adapted is None else self.adapted.virtual_tokens(len(self.prompts.ids))
        states: FloatArray = read(self.model, self.prompts, virtual).cpu().numpy()
        return states


def _started(one: _Pass | Reading) -> _Pass:
    """Return a pass of the base, which can't be anything else but a pass or an error."""
    if isinstance(one, DeltadexError):
        raise one
    assert isinstance(one, _Pass)  # noqa: S101
    return one


def _read(result: Reading) -> FloatArray:
    if isinstance(result, DeltadexError):
        raise result
    return result


def _holds_nan(result: object) -> bool:
    return isinstance(result, np.ndarray) and bool(np.isnan(result).any())
