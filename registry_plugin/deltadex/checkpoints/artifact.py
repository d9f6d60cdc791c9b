"""One artifact as `inspect` sees it: which files there are, and what the small ones say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import yaml

from deltadex.checkpoints.files import Files
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

MLMODEL = "MLmodel"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_MAX_JSON_BYTES = 64 << 20
_MAX_YAML_BYTES = 1 << 20  # its parser is slow


class Artifact:
    """Reads what `inspect` asks for.

    Attributes
    ----------
    sizes
        Every file as relative POSIX path → bytes.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.sizes = files.sizes()

    @property
    def where(self) -> str:
        """How messages call the artifact."""
        return self.files.where

    def has(self, path: PurePosixPath) -> bool:
        """Tell whether there is such a file."""
        return str(path) in self.sizes

    def read_json(self, path: PurePosixPath) -> dict[str, Any]:
        """Return the fields of a JSON file; raises BrokenCheckpoint where it holds none."""
        try:
            content = json.loads(self._read(path, at_most=_MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise BrokenCheckpoint(f"{path} in {self.where} is no JSON: {error}", hint="Log it again.") from error
        return self._mapping(content, path)

    def read_yaml(self, path: PurePosixPath) -> dict[str, Any]:
        """Return the fields of a YAML file; raises BrokenCheckpoint where it holds none."""
        try:
            content = yaml.safe_load(self._read(path, at_most=_MAX_YAML_BYTES))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BrokenCheckpoint(f"{path} in {self.where} is no YAML: {error}", hint="Log it again.") from error
        return self._mapping(content, path)

    def card(self, folder: PurePosixPath) -> dict[str, Any]:
        """Return the fields at the head of a folder's Hugging Face model card; none where there are none."""
        card = folder / "README.md"
        if self.sizes.get(str(card), _MAX_YAML_BYTES) >= _MAX_YAML_BYTES:
            return {}
        parts = self._read(card, at_most=_MAX_YAML_BYTES).decode(errors="replace").split("---\n", maxsplit=2)
        if len(parts) < 3 or parts[0].strip():
            return {}
        try:
            front = yaml.safe_load(parts[1])
        except (yaml.YAMLError, ValueError, RecursionError):  # a card is prose; a wrong one is no fault of the weights
            return {}
        return front if isinstance(front, dict) else {}

    def names(self, folder: PurePosixPath) -> list[str]:
        """Return the files directly inside a folder."""
        return [path.name for path in map(PurePosixPath, self.sizes) if path.parent == folder]

    def model_folder(self) -> PurePosixPath:
        """Return the folder that says what the model is: the artifact, or the only such folder directly below."""
        top = PurePosixPath()
        markers = {MLMODEL, ADAPTER_CONFIG, CONFIG}
        if markers.intersection(self.names(top)):
            return top
        paths = [PurePosixPath(path) for path in self.sizes]
        below = sorted({path.parent for path in paths if path.name in markers and len(path.parts) == 2})
        if not below:
            raise self.without_weights(top)
        if len(below) > 1:
            raise self.several(below)
        return below[0]

    def folders_with_weights(self) -> list[PurePosixPath]:
        """Return every folder with a config and weights beside it, without those inside another of them."""
        paths = [PurePosixPath(path) for path in self.sizes]
        described = {path.parent for path in paths if path.name in (CONFIG, ADAPTER_CONFIG)}
        weighty = {path.parent for path in paths if path.suffix in (".safetensors", *_PICKLES)}
        found = described & weighty
        return sorted(folder for folder in found if not found.intersection(folder.parents))

    def several(self, folders: Iterable[PurePosixPath]) -> UnsupportedCheckpoint:
        """Return the error for an artifact of which nobody can say which model it is."""
        return UnsupportedCheckpoint(
            f"{self.where} holds several models: {', '.join(map(str, folders))}",
            hint="Register one folder per model version.",
        )

    def without_weights(self, folder: PurePosixPath) -> BrokenCheckpoint | UnsupportedCheckpoint:
        """Return the error that says best why there is nothing to embed in a folder."""
        names = sorted(path for path in self.sizes if PurePosixPath(path).is_relative_to(folder))
        pickles = [path for path in names if path.endswith(_PICKLES)]
        gguf = [path for path in names if path.lower().endswith(".gguf")]
        if any(path.endswith(".safetensors") for path in names):
            return BrokenCheckpoint(
                f"{self.where} has safetensors files, but no config or index says what they are",
                hint="Register the whole folder that save_pretrained wrote.",
            )
        if gguf:
            return UnsupportedCheckpoint(
                f"{self.where} has its weights only as GGUF ({gguf[0]}), rounded for inference and not streamable",
                hint="Register the safetensors folder that the GGUF file was converted from.",
            )
        if pickles:
            return UnsupportedCheckpoint(
                f"{self.where} has its weights only as a pickle ({pickles[0]}), which can run code: never opened",
                hint="Save the model with safetensors (save_pretrained does by default) and register that.",
            )
        if {CONFIG, ADAPTER_CONFIG} & {PurePosixPath(path).name for path in names}:
            return BrokenCheckpoint(f"{self.where} has a config but no weights", hint="Was the upload complete?")
        return UnsupportedCheckpoint(
            f"{self.where} holds no language model that Deltadex knows (files: {', '.join(names[:5])})",
            hint="Register a Hugging Face folder, a PEFT folder, or a model logged with mlflow.transformers.",
        )

    def _read(self, path: PurePosixPath, *, at_most: int) -> bytes:
        if self.sizes[str(path)] > at_most:
            raise BrokenCheckpoint(f"{path} in {self.where} is too large for a config", hint="Log it again.")
        return (self.files.fetch([str(path)]) / path).read_bytes()

    def _mapping(self, content: Any, path: PurePosixPath) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise BrokenCheckpoint(f"{path} in {self.where} holds no fields", hint="Log it again.")
        return content
