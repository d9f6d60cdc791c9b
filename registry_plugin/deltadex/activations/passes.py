"""Hidden states of models over one set of weights: the base itself, and the base with each of many adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from deltadex.activations.adapters import AdaptedModel
from deltadex.activations.lockstep import Buffer, Lockstep
from deltadex.activations.readout import Prompts, read
from deltadex.activations.stored_model import StoredModel, first_line
from deltadex.activations.units import Unit, slots_of, units_of
from deltadex.checkpoints.layout import LocalCheckpoint
from deltadex.domain import FloatArray
from deltadex.errors import BrokenCheckpoint, DeltadexError, EmbeddingError


@dataclass(frozen=True)
class Reader:
    """Reads the probes with models that share the weights of `stored`.

    Attributes
    ----------
    buffer
        Where weights are upcast into, in the dtype of the computation.
    on_bytes
        Called with the number of bytes of weights that each step has read.
    """

    stored: StoredModel
    prompts: Prompts
    buffer: Buffer
    on_bytes: Callable[[int], None] = lambda _: None

    def read(self, adapters: Sequence[LocalCheckpoint | None]) -> list[FloatArray | DeltadexError]:
        """Return, for each adapter and for None without one, `(n_probes, hidden_size)` float32 or what went wrong."""
        results = self._read(adapters, whole_layers=False)
        # NaN may come from a stand-in that somebody reached past its module (see units.py), or from the weights.
        again = [i for i, result in enumerate(results) if isinstance(result, np.ndarray) and np.isnan(result).any()]
        repeated = self._read([adapters[i] for i in again], whole_layers=True)
        for i, result in zip(again, repeated, strict=True):
            results[i] = result
        return [self._checked(result) for result in results]

    def _read(
        self, adapters: Sequence[LocalCheckpoint | None], *, whole_layers: bool
    ) -> list[FloatArray | DeltadexError]:
        passes: list[_Pass | DeltadexError] = [self._pass(adapter, whole_layers) for adapter in adapters]
        lockstep = Lockstep(self.stored, self.buffer, on_bytes=self.on_bytes)
        results = iter(lockstep.run([one for one in passes if isinstance(one, _Pass)]))
        return [next(results) if isinstance(one, _Pass) else one for one in passes]

    def _pass(self, adapter: LocalCheckpoint | None, whole_layers: bool) -> _Pass | DeltadexError:
        model = self.stored.new_model()
        try:
            self.prompts.check_vocabulary(model)
            adapted = None if adapter is None else AdaptedModel(model, adapter, dtype=self.buffer.dtype)
        except DeltadexError as error:
            return error
        slots = slots_of(model) if adapted is None else adapted.slots
        return _Pass(model, adapted, self.prompts, units_of(model, slots, whole_layers=whole_layers))

    def _checked(self, result: FloatArray | Exception) -> FloatArray | DeltadexError:
        folder, missing = self.stored.checkpoint.folder, sorted(self.stored.missing)
        if isinstance(result, DeltadexError):
            return result
        if isinstance(result, Exception):
            return EmbeddingError(f"{folder} could not be run: {first_line(result)}", hint="See the log.")
        if np.isfinite(result).all():
            return result
        if missing:
            return BrokenCheckpoint(
                f"{len(missing)} tensors of {folder} are missing, such as {missing[0]}",
                hint="Save the model with save_pretrained and log it again.",
            )
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

    def run(self) -> FloatArray:
        virtual = None if self.adapted is None else self.adapted.virtual_tokens(len(self.prompts.ids))
        states: FloatArray = read(self.model, self.prompts, virtual).numpy()
        return states
