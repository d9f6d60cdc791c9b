"""Whole models in memory, where all weights are needed many times: to generate text, and to train."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.readout import Readout
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.peft_adapters import AdaptedModel
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.units import slots_of
from deltadex.errors import UnsupportedCheckpoint


def load_decoder(
    stored: StoredModel, device: torch.device, *, adapter: LocalCheckpoint | None = None
) -> PreTrainedModel:
    """Return a model that generates text, in the dtype of its files; on a CPU its tensors are mapped, not copied.

    Parameters
    ----------
    adapter
        Attached to the stored weights; None for the plain model.

    Raises
    ------
    UnsupportedCheckpoint
        It does not generate text, or the adapter is a trained prompt.
    CheckpointError
        Weights are missing, or the adapter does not fit.
    """
    if stored.head is None or Readout.of(stored.config) is not Readout.LAST_TOKEN:
        raise UnsupportedCheckpoint(f"{stored.checkpoint} does not generate text", hint="This needs a decoder.")
    # Some files hold norms in another dtype than the matrices; the output head has that of the matrices.
    compute = Compute(stored.load(stored.head).dtype, device)
    model = stored.new_model(device)
    slots = slots_of(model)
    if adapter is not None:
        adapted = AdaptedModel(model, adapter, compute=compute)
        if adapted.is_prompt:
            raise UnsupportedCheckpoint(f"{adapter} is a trained prompt", hint="This needs changed weights.")
        slots = adapted.slots
    stored.refuse_missing({slot.name for slot in slots} & stored.missing)
    for slot in slots:
        slot.fill(stored.load(slot.name).to(compute.device, compute.dtype))
    return model
