"""Training and reading of the finetunes; what was made before is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.real.measured import Matrix, Measured
from benchmarks.real.pools import Finetune, Method
from benchmarks.real.readings import Reader, Readings
from benchmarks.real.training import Workshop
from benchmarks.real.weights import weight_similarities
from deltadex.demo import training


def make(workshop: Workshop, finetunes: Sequence[Finetune], minutes: float) -> Measured:
    """Train and read finetunes, and measure those that are there.

    Parameters
    ----------
    minutes
        No training begins later than this.
    """
    reader = Reader(workshop)
    models, readings = [], []
    end = time.monotonic() + 60 * minutes
    with training.quiet():
        for one in track(finetunes, "training and reading", console=Console(stderr=True)):
            if workshop.is_trained(one) or time.monotonic() < end:
                models.append(one)
                readings.append(reader.read(one))
    arrays = {field.name: np.stack([getattr(one, field.name) for one in readings]) for field in fields(Readings)}
    grams = arrays.pop("gram").reshape(len(models), -1).astype(np.float64)
    return Measured(tuple(models), arrays, {"hidden states, CKA": grams @ grams.T, **_weights(workshop, models)})


def _weights(workshop: Workshop, models: Sequence[Finetune]) -> dict[str, Matrix]:
    """Return similarities by weights; a full model has no adapter, and is like no other."""
    with_adapter = (Method.ADAPTER, Method.PREFERENCE)
    adapters = [number for number, one in enumerate(models) if one.method in with_adapter]
    found = weight_similarities([workshop.finetune(models[number]) for number in adapters])
    matrices = {}
    for form, similarity in found.items():
        matrices[f"weights, {form}"] = np.eye(len(models))
        matrices[f"weights, {form}"][np.ix_(adapters, adapters)] = similarity
    return matrices
