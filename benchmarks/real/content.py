"""Deltas by the product's recipe alone, in one pass per finetune; `readings.py` reads all candidates."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.real.pools import Finetune
from benchmarks.real.training import Workshop
from deltadex.demo import training
from deltadex.engine.probes import CONTENT_PROBES

Array = NDArray[np.float32]


class ContentReader:
    """Reads finetunes of one base; what was read before is kept beside the weights."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._tokenizer: PreTrainedTokenizerFast = training.load_tokenizer(workshop.base)

    def delta(self, one: Finetune) -> Array:
        """Return `(hidden_size,)`: mean over tokens, then over probes, of finetune less base, after the final norm."""
        folder = self._workshop.finetune(one)
        file = folder / "content.npy"
        if not file.exists():
            np.save(file, self._state(training.load_adapter(self._workshop.base, folder)) - self._of_base)
        found: Array = np.load(file)
        return found

    @cached_property
    def _of_base(self) -> Array:
        return self._state(training.load_base(self._workshop.base))

    @torch.inference_mode()
    def _state(self, model: PreTrainedModel) -> Array:
        passes = [self._tokenizer(probe, return_tensors="pt")["input_ids"] for probe in CONTENT_PROBES.probes]
        states = [model.eval()(input_ids=tokens, output_hidden_states=True).hidden_states[-1] for tokens in passes]
        mean: Array = torch.stack([state[0].mean(0) for state in states]).mean(0).numpy()
        return mean
