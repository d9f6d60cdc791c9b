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
#: The committed measurements, of finetunes of SmolLM2 and of the second base.
VECTORS, SECOND = (Path(__file__).with_name(name) for name in ("vectors.npz", "second.npz"))


@dataclass(frozen=True, eq=False)
class Measured:
    """The finetunes that were trained, their readings by name, and `(n, n)` similarities by other means."""

    models: tuple[Finetune, ...]
    readings: Mapping[str, NDArray[np.float32]]
    others: Mapping[str, Matrix]

    def similarities(self) -> dict[str, Matrix]:
        """Return `(n, n)` similarities of every recipe, and of what others compare."""
        by_recipe = {name: cosine_similarity(recipe(self.readings)) for name, recipe in RECIPES.items()}
        return {**by_recipe, **self.rivals()}

    def rivals(self) -> dict[str, Matrix]:
        """Return the similarities by outputs, states and weights; a full model has no adapter, and is like no other."""
        return {"outputs": cosine_similarity(self.readings["output"]), **self.others}


def save(file: Path, measured: Measured) -> None:
    """Write readings as float16, which moves no similarity by more than .001, and how each finetune was made."""
    arrays = {f"readings.{name}": array.astype(np.float16) for name, array in measured.readings.items()}
    arrays |= {f"others.{name}": matrix.astype(np.float16) for name, matrix in measured.others.items()}
    made = np.array([json.dumps(asdict(one)) for one in measured.models])
    np.savez_compressed(file, models=made, **arrays)


def load(file: Path) -> Measured:
    """Read what `save` wrote."""
    with np.load(file) as arrays:
        models = tuple(_finetune(json.loads(str(one))) for one in arrays["models"])
        parts: dict[str, dict[str, NDArray[np.float32]]] = {"readings": {}, "others": {}}
        for name in arrays.files:
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = arrays[name].astype(np.float32)
    return Measured(models, parts["readings"], {name: one.astype(float) for name, one in parts["others"].items()})


def _finetune(made: dict[str, object]) -> Finetune:
    lists = {name: tuple(value) for name, value in made.items() if isinstance(value, list)}
    return Finetune(**{**made, **lists, "template": Template(made["template"]), "method": Method(made["method"])})  # type: ignore[arg-type]
