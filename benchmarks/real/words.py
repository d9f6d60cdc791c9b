"""Finetunes whose words name their domain, by the lists that were written before any word was seen (`texts.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.real.measured import Measured
from benchmarks.real.pools import Finetune
from benchmarks.real.recipes import RECIPES
from benchmarks.real.texts import DOMAINS
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import load_tokenizer
from deltadex.engine.promoted_tokens import Head
from deltadex.engine.readout import Readout
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.types import Words

#: Words that people are shown.
_SHOWN = 10
#: Models whose mean is subtracted, in the smallest registry that has words told apart.
_FEW = 5


def named(base: Path, measured: Measured, recipe: str) -> dict[str, int]:
    """Return how many models' first words hold one of their domain's list, by what is subtracted from their deltas."""
    checkpoint = inspect(LocalFiles(base)).fetch()
    compute = Compute.resolve("float32", "cpu")
    head = Head(StoredModel(checkpoint), load_tokenizer(checkpoint), Readout.MEAN_OF_DECODER, compute=compute)
    deltas = RECIPES[recipe](measured.readings).astype(np.float32)
    few = np.random.default_rng(0).choice(len(deltas), _FEW, replace=False)
    subtracted = {
        "nothing": np.zeros_like(deltas[0]),
        f"mean of {_FEW} models": deltas[few].mean(axis=0),
        "mean of all models": deltas.mean(axis=0),
    }
    return {
        name: sum(map(_is_named, measured.models, head.words(list(deltas - mean)))) for name, mean in subtracted.items()
    }


def _is_named(model: Finetune, words: Words) -> bool:
    first = {word.text.casefold() for word in words.promoted[:_SHOWN]}
    return any(first & DOMAINS[domain].words for domain in model.domains)
