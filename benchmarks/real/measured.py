"""Measurements of the finetunes, and the committed file that contains them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.pools import Finetune, Method, Template
from benchmarks.real.recipes import RECIPES
from deltadex.vectors import cosine_similarity

Matrix = NDArray[np.float64]
#: The committed measurements.
VECTORS = Path(__file__).with_name("vectors.npz")


@dataclass(frozen=True, eq=False)
class Measured:
    """The finetunes that were trained, their readings by name, and the similarities of the adapters' weights."""

    models: tuple[Finetune, ...]
    readings: Mapping[str, NDArray[np.float32]]
    weights: Mapping[str, Matrix]

    def similarities(self) -> dict[str, Matrix]:
        """Return `(n, n)` similarities of every recipe, and of what others compare."""
        by_recipe = {name: cosine_similarity(recipe(self.readings)) for name, recipe in RECIPES.items()}
        return {**by_recipe, **self.rivals()}

    def rivals(self) -> dict[str, Matrix]:
        """Return the similarities by outputs and by weights; full models have no adapter, so they are like no other."""
        return {"outputs": cosine_similarity(self.readings["output"]), **self.weights}


def save(file: Path, measured: Measured) -> None:
    """Write readings as float16, which moves no similarity by more than .001, and how each finetune was made."""
    arrays = {f"readings.{name}": array.astype(np.float16) for name, array in measured.readings.items()}
    arrays |= {f"weights.{name}": matrix.astype(np.float16) for name, matrix in measured.weights.items()}
    made = np.array([json.dumps(asdict(one)) for one in measured.models])
    np.savez_compressed(file, models=made, **arrays)


def load(file: Path) -> Measured:
    """Read what `save` wrote."""
    with np.load(file) as arrays:
        models = tuple(_finetune(json.loads(str(one))) for one in arrays["models"])
        parts: dict[str, dict[str, NDArray[np.float32]]] = {"readings": {}, "weights": {}}
        for name in arrays.files:
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = arrays[name].astype(np.float32)
    return Measured(models, parts["readings"], {name: one.astype(float) for name, one in parts["weights"].items()})


def _finetune(made: dict[str, object]) -> Finetune:
    lists = {name: tuple(value) for name, value in made.items() if isinstance(value, list)}
    return Finetune(**{**made, **lists, "template": Template(made["template"]), "method": Method(made["method"])})  # type: ignore[arg-type]
