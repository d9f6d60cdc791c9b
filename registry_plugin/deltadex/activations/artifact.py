"""An embedding as files: the numbers in safetensors, everything a person or an auditor asks about them in JSON."""

from __future__ import annotations

import hashlib
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
    described = {**manifest, **_describe(embedding), "files": {TENSORS: _sha256(folder / TENSORS)}}
    (folder / MANIFEST).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what `manifest.json` says, its caller's fields included.

    Raises
    ------
    EmbeddingError
        It is missing or not JSON.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise EmbeddingError(f"{folder} holds no embedding: {error}", hint="Embed the model version again.") from error
    if not isinstance(manifest, dict):
        raise EmbeddingError(f"{folder / MANIFEST} is no manifest", hint="Embed the model version again.")
    return manifest


def read_artifact(folder: Path) -> Embedding:
    """Read what `write_artifact` wrote, and hold it against its digests.

    Raises
    ------
    EmbeddingError
        The files are missing, damaged, of another format or contradict each other.
    """
    manifest = read_manifest(folder)
    try:
        digest = manifest.get("files", {}).get(TENSORS)  # None in those of earlier versions
        is_whole = digest in (None, _sha256(folder / TENSORS))
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
    if not is_whole:
        raise EmbeddingError(f"{folder / TENSORS} is not what was written", hint="Embed the model version again.")
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


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
