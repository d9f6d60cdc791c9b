"""Embeddings as files: the vectors in safetensors, and a JSON manifest for people and auditors."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from deltadex.errors import EmbeddingError
from deltadex.types import Embedding, EmbeddingMethod, Recipe, Word, Words

TENSORS = "embedding.safetensors"
MANIFEST = "manifest.json"
FORMAT = "deltadex-embedding/1"

_LIBRARIES = ("deltadex", "torch", "transformers", "peft", "safetensors", "numpy")


def write_artifact(
    embedding: Embedding, folder: Path, *, manifest: Mapping[str, object], key: bytes | None = None
) -> None:
    """Write `embedding.safetensors` and `manifest.json` into an existing folder.

    Parameters
    ----------
    manifest
        Additional fields as JSON values, such as base name, sources and timings. They can't replace our own fields.
    key
        Seals the manifest, and with it the digest of the vectors. Who may edit a run can replace both files.
    """
    tensors = {"vector": embedding.vector, "probe_deltas": np.ascontiguousarray(embedding.probe_deltas)}
    save_file(tensors, folder / TENSORS, metadata={"format": FORMAT, "recipe": embedding.recipe.digest})
    described = {**manifest, **_describe(embedding), "files": {TENSORS: _sha256(folder / TENSORS)}}
    if key is not None:
        described["seal"] = {"key": _key_id(key), "hmac": _hmac(key, described)}
    (folder / MANIFEST).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `manifest.json`, including the fields of the caller that wrote it.

    Raises
    ------
    EmbeddingError
        The file is missing or not JSON.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise EmbeddingError(f"{folder} holds no embedding: {error}", hint="Embed the model version again.") from error
    if not isinstance(manifest, dict):
        raise EmbeddingError(f"{folder / MANIFEST} is not a manifest", hint="Embed the model version again.")
    return manifest


def seal_fault(manifest: Mapping[str, Any], key: bytes | None) -> str:
    """Return why a manifest is not known to be ours, in words; empty if it is sealed with this key."""
    seal, files = manifest.get("seal"), manifest.get("files")
    if key is None:
        return "no DELTADEX_ARTIFACT_KEY is set to check its seal"
    if not isinstance(seal, dict) or not isinstance(files, dict) or TENSORS not in files:
        return "it is not sealed"
    if seal.get("key") != _key_id(key):
        return "it is sealed with another key"
    if not hmac.compare_digest(str(seal.get("hmac")).encode(), _hmac(key, manifest).encode()):
        return "it was changed after it was sealed"
    return ""


def _key_id(key: bytes) -> str:
    """Return a name of the key that does not tell it."""
    return _hmac(key, {"names": "key"})[:16]


def _hmac(key: bytes, manifest: Mapping[str, Any]) -> str:
    """Return the hex HMAC-SHA-256 of a manifest without its seal, in one form for all writers."""
    sealed = {name: value for name, value in manifest.items() if name != "seal"}
    text = json.dumps(sealed, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, f"{FORMAT}\n{text}".encode(), hashlib.sha256).hexdigest()


def read_artifact(folder: Path) -> Embedding:
    """Read an artifact of `write_artifact` and verify its digests.

    Raises
    ------
    EmbeddingError
        The files are missing, damaged, of another format, or contradict each other.
    """
    manifest = read_manifest(folder)
    try:
        digest = manifest.get("files", {}).get(TENSORS)  # None in artifacts of earlier versions
        is_intact = digest in (None, _sha256(folder / TENSORS))
        deltas = load_file(folder / TENSORS)["probe_deltas"]
        recipe = _recipe(manifest["recipe"])
        embedding = Embedding(
            recipe,
            deltas,
            float(manifest["base_norm"]),
            str(manifest["weights_digest"]),
            manifest.get("noise_floor"),  # None in artifacts of earlier versions
            _words(manifest.get("words")),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EmbeddingError(f"{folder} holds no embedding: {error}", hint="Embed the model version again.") from error
    if manifest["format"] != FORMAT or recipe.digest != manifest["recipe"]["digest"]:
        raise EmbeddingError(f"The recipe in {folder} does not match its digest", hint="Embed the version again.")
    if not is_intact:
        raise EmbeddingError(f"{folder / TENSORS} was changed", hint="Embed the model version again.")
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
        tuple(Word(str(one["text"]), float(one["score"])) for one in described[direction])
        for direction in ("promoted", "demoted")
    )
    return Words(promoted, demoted, str(described["note"]))


def _recipe(described: Mapping[str, Any]) -> Recipe:
    method = EmbeddingMethod(**described["method"])
    return Recipe(method=method, base_digest=described["base_digest"], dimension=described["dimension"])
