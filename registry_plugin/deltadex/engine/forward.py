"""Hidden states of models that share one set of weights: a base, and the base with each of several adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.base_states import BaseStates, Layers
from deltadex.engine.failures import as_deltadex_error
from deltadex.engine.lockstep import Lockstep
from deltadex.engine.messages import OnProgress, ignore_progress
from deltadex.engine.readout import Prompts, read
from deltadex.engine.weights.buffers import Buffer, buffer_for
from deltadex.engine.weights.peft_adapters import AdaptedModel, is_adapted
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.units import Unit, slots_of, units_of
from deltadex.errors import DeltadexError, EmbeddingError
from deltadex.types import FloatArray

Reading = FloatArray | DeltadexError

#: Change of a probe's state through the padding beside it, in units of its norm, from which each probe is read alone.
#: Rounding in float32 moves states by 1e-6; FNet, which knows no mask, by .5, and Nystromformer's approximation by .04.
_PADDING_SHIFT = 1e-3


@dataclass(frozen=True)
class Reader:
    """Runs the probes through models that share the weights of `stored`.

    Attributes
    ----------
    buffer
        Memory for the weights in use, with their device and dtype.
    base
        The base's states once they are known; a model whose first layers equal the base's resumes from them.
    identical
        Names of the tensors of `stored` that equal the base's to the last bit; None for the base itself.
    read_alone
        Whether each probe is read in a batch of its own; see `BaseStates.read_alone`.
    on_progress
        Called with each unit's key and the bytes of weights read for it.
    """

    stored: StoredModel
    prompts: Prompts
    buffer: Buffer
    base: BaseStates | None = None
    identical: frozenset[str] | None = None
    read_alone: bool = False
    on_progress: OnProgress = ignore_progress

    def read(self, adapters: Sequence[LocalCheckpoint | None]) -> list[Reading]:
        """Return `(n_probes, hidden_size)` float32, or an error, for each adapter; None stands for the plain model."""
        if self.read_alone:
            return replace(self, base=None, identical=None, read_alone=False)._read_alone(adapters)
        results = self._read(adapters, whole_layers=False)
        # NaN comes from the weights, or from a placeholder that was read outside its module's forward (see units.py).
        retried = [number for number, result in enumerate(results) if _holds_nan(result)]
        repeated = self._read([adapters[number] for number in retried], whole_layers=True)
        for number, result in zip(retried, repeated, strict=True):
            results[number] = result
        return [self._checked(result) for result in results]

    def read_base(self) -> BaseStates:
        """Read the base, and measure the noise floor of its states.

        Raises
        ------
        DeltadexError
            The base cannot be read.
        """
        for whole_layers in (False, True):
            base_pass = _base_pass(self._pass(None, whole_layers))
            outputs = base_pass.layers.record()
            lockstep = self._lockstep()
            (result,) = lockstep.run([base_pass], order=base_pass.units)
            if not _holds_nan(result):
                break
        states, order = _raise_if_error(self._checked(result)), tuple(lockstep.visited)
        floor, padding_shift = self._noise(states, whole_layers=whole_layers)
        if padding_shift > _PADDING_SHIFT:
            states = _raise_if_error(self._read_alone([None])[0])
            return BaseStates(states, (), order, self._noise(states, whole_layers=whole_layers)[0], read_alone=True)
        after = self._resumable(outputs, states, whole_layers=whole_layers)
        return BaseStates(states, after, order, floor)

    def _read_alone(self, adapters: Sequence[LocalCheckpoint | None]) -> list[Reading]:
        """Read each probe in a batch of its own."""
        by_probe = [replace(self, prompts=one).read(adapters) for one in self.prompts.alone()]
        return [_joined(rows) for rows in zip(*by_probe, strict=True)]

    def _resumable(
        self, outputs: Sequence[object], states: FloatArray, *, whole_layers: bool
    ) -> tuple[torch.Tensor, ...]:
        """Return the layers' outputs if resuming from the middle and from the last one reproduces the states exactly.

        Late layers may use more of the early ones than the states between them, so both points are tried.
        """
        tensors = tuple(output for output in outputs if isinstance(output, torch.Tensor))
        if len(tensors) < len(outputs) or len(tensors) < 2:
            return ()
        for start in {len(tensors) // 2, len(tensors) - 1}:
            base_pass = _base_pass(self._pass(None, whole_layers))
            if len(base_pass.layers) != len(tensors):
                return ()
            base_pass.layers.start_at(start, tensors[start - 1])
            (result,) = self._lockstep().run([base_pass], order=base_pass.units)
            if not isinstance(result, np.ndarray) or not np.array_equal(result, states):
                return ()
        return tensors

    def _noise(self, states: FloatArray, *, whole_layers: bool) -> tuple[float, float]:
        """Return how far two probes move when each is read alone, in float32, with half of the threads.

        The first number compares with `states`: the noise floor. The second one compares with a batch in float32, and
        is the effect of its padding. Both are in units of the mean norm of `states`.
        """
        compute = replace(self.buffer.compute, dtype=torch.float32)
        exact_reader = self if self.buffer.compute == compute else replace(self, buffer=buffer_for(compute))
        single_probes, threads = self.prompts.alone(), torch.get_num_threads()
        lengths = [probe.ids.shape[1] for probe in single_probes]
        chosen = sorted({lengths.index(min(lengths)), lengths.index(max(lengths))})
        readers = [exact_reader, *(replace(exact_reader, prompts=single_probes[number]) for number in chosen)]
        passes = [_base_pass(reader._pass(None, whole_layers)) for reader in readers]
        torch.set_num_threads(max(1, threads // 2))
        try:
            batch, *results = map(
                _raise_if_error, map(exact_reader._checked, exact_reader._lockstep().run(passes, order=passes[0].units))
            )
        finally:
            torch.set_num_threads(threads)
        norm = np.linalg.norm(states, axis=1).mean()
        floor, shift = (
            float(max(np.linalg.norm(one[0] - among[at]) for at, one in zip(chosen, results, strict=True)) / norm)
            for among in (states, batch)
        )
        return floor, shift

    def _read(self, adapters: Sequence[LocalCheckpoint | None], *, whole_layers: bool) -> list[Reading]:
        if not adapters:
            return []
        passes = [self._pass(adapter, whole_layers) for adapter in adapters]
        model = self.stored.new_model(self.buffer.compute.device)
        order = units_of(model, slots_of(model), whole_layers=whole_layers)
        if self.base is not None:  # modules may be registered in another order than they run
            position = {key: number for number, key in enumerate(self.base.order)}
            order.sort(key=lambda unit: position.get(unit.key, -1))
        results = iter(self._lockstep().run([one for one in passes if isinstance(one, _Pass)], order=order))
        return [next(results) if isinstance(one, _Pass) else one for one in passes]

    def _lockstep(self) -> Lockstep:
        return Lockstep(self.stored, self.buffer, on_progress=self.on_progress)

    def _pass(self, adapter: LocalCheckpoint | None, whole_layers: bool) -> _Pass | Reading:
        """Return a pass to run, or its result if nothing has to be run."""
        compute = self.buffer.compute
        model = self.stored.new_model(compute.device)
        try:
            self.prompts.check_vocabulary(model)
            adapted = None if adapter is None else AdaptedModel(model, adapter, compute=compute)
        except Exception as error:  # noqa: BLE001 - one failed adapter must not stop the others
            return as_deltadex_error(
                error, context=f"{adapter or self.stored.checkpoint} could not be attached to its base"
            )
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
        folder = self.stored.checkpoint
        if isinstance(result, Exception):
            return as_deltadex_error(result, context=f"{folder} could not be run")
        if np.isfinite(result).all():
            return result
        return EmbeddingError(
            f"The hidden states of {folder} are not finite",
            hint="The weights contain NaN or infinity, or the computation overflows: check the training run.",
        )


@dataclass(frozen=True, eq=False)
class _Pass:
    """One forward pass of the probes through a copy of the model. Implements `deltadex.engine.lockstep.Pass`."""

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


def _base_pass(result: _Pass | Reading) -> _Pass:
    """Return the pass, or raise the error that `_pass` returned; a base's result is never known without a pass."""
    if isinstance(result, DeltadexError):
        raise result
    assert isinstance(result, _Pass)  # noqa: S101
    return result


def _raise_if_error(result: Reading) -> FloatArray:
    if isinstance(result, DeltadexError):
        raise result
    return result


def _joined(rows: Sequence[Reading]) -> Reading:
    error = next((row for row in rows if isinstance(row, DeltadexError)), None)
    return error or np.concatenate([_raise_if_error(row) for row in rows])


def _holds_nan(result: object) -> bool:
    return isinstance(result, np.ndarray) and bool(np.isnan(result).any())
