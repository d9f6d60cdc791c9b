"""An embedding as files: the numbers in safetensors, everything a person or an auditor asks about them in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from deltadex.domain import Embedding, EmbeddingMethod, Recipe, Word, Words
from deltadex.errors import EmbeddingError

TENSORS = "embedding.safetensors"
MANIFEST = "manifest.json"
FORMAT = "deltadex-embedding/1"

_LIBRARIES = ("deltadex", "torch", "transformers", "peft", "safetensors", "numpy")


def write_artifact(embedding: Embedding, folder: Path, *, manifest: Mapping[str, object]) -> None:
    """Write `embedding.safetensors` and `manifest.json` into an existing folder.

    Parameters
    ----------
    manifest
        What only the caller knows, as JSON values: base name, sources, timings. It can't replace a field of ours.
    """
    tensors = {"vector": embedding.vector, "probe_deltas": np.ascontiguousarray(embedding.probe_deltas)}
    save_file(tensors, folder / TENSORS, metadata={"format": FORMAT, "recipe": embedding.recipe.digest})
    described = {**manifest, **_describe(embedding)}
    (folder / MANIFEST).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def read_artifact(folder: Path) -> Embedding:
    """Read what `write_artifact` wrote.

    Raises
    ------
    EmbeddingError
        The files are missing, damaged, of another format or contradict each other.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        deltas = load_file(folder / TENSORS)["probe_deltas"]
        recipe = _recipe(manifest["recipe"])
        embedding = Embedding(
            recipe,
            deltas,
            float(manifest["base_norm"]),
            str(manifest["weights_digest"]),
            manifest.get("noise_floor"),  # None in those of earlier versions
            _words(manifest.get("words")),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EmbeddingError(f"{folder} holds no embedding: {error}", hint="Embed the model version again.") from error
    if manifest["format"] != FORMAT or recipe.digest != manifest["recipe"]["digest"]:
        raise EmbeddingError(f"{folder} has a recipe that its digest does not fit", hint="Embed the version again.")
    if deltas.dtype != np.float32 or deltas.ndim != 2 or deltas.shape[1] != recipe.dimension:
        raise EmbeddingError(f"{folder} holds {deltas.dtype} {deltas.shape}", hint="Embed the model version again.")
    return embedding


def _describe(embedding: Embedding) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "recipe": {**asdict(embedding.recipe), "digest": embedding.recipe.digest},
        "weights_digest": embedding.weights_digest,
        "norm": embedding.norm,
        "base_norm": embedding.base_norm,
        "noise_floor": embedding.noise_floor,
        "strength": embedding.strength,
        "probe_agreement": embedding.probe_agreement,
        "words": embedding.words and asdict(embedding.words),
        "versions": {library: version(library) for library in _LIBRARIES},
    }


def _words(described: Mapping[str, Any] | None) -> Words | None:
    if described is None:
        return None
    promoted, demoted = (
        tuple(Word(str(one["text"]), float(one["score"])) for one in described[way]) for way in ("promoted", "demoted")
    )
    return Words(promoted, demoted, str(described["note"]))


def _recipe(described: Mapping[str, Any]) -> Recipe:
    method = EmbeddingMethod(**described["method"])
    return Recipe(method=method, base_digest=described["base_digest"], dimension=described["dimension"])
