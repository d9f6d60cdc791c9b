"""Listing of an artifact's files, and reading of the small ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import yaml

from deltadex.downloads.files import Files
from deltadex.errors import BrokenCheckpoint, IncompleteCheckpoint, NoLanguageModel, UnsupportedCheckpoint

MLMODEL = "MLmodel"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
GGUF = ".gguf"

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
#: A trainer's other pickles, which hold no weights.
_NOT_WEIGHTS = ("rng_state", "optimizer", "scheduler", "scaler", "training_args", "random_states")
#: The largest index that we know of, of a model of 670 billion parameters, has 9 MB; read, it takes twenty times that.
_MAX_JSON_BYTES = 16 << 20
_MAX_YAML_BYTES = 1 << 20  # the YAML parser is slow
_MAX_YAML_ALIASES = 32


class _BoundedLoader(yaml.SafeLoader):
    """Refuses YAML that expands: a kilobyte of merges and aliases can stand for gigabytes."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _MAX_YAML_ALIASES:
                raise yaml.YAMLError(f"more than {_MAX_YAML_ALIASES} aliases")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merged mappings are not read")


class Artifact:
    """The files of one artifact.

    Attributes
    ----------
    sizes
        Size in bytes of every file, by relative POSIX path.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.sizes = files.sizes()

    @property
    def where(self) -> str:
        """Name of the artifact in messages."""
        return self.files.where

    def has(self, path: PurePosixPath) -> bool:
        """Return True if the file exists."""
        return str(path) in self.sizes

    def read_json(self, path: PurePosixPath) -> dict[str, Any]:
        """Return the fields of a JSON file; raise BrokenCheckpoint if it is not a JSON object."""
        try:
            content = json.loads(self._read(path, at_most=_MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise BrokenCheckpoint(
                f"{path} in {self.where} is not valid JSON: {error}", hint="Log it again."
            ) from error
        return self._mapping(content, path)

    def read_yaml(self, path: PurePosixPath) -> dict[str, Any]:
        """Return the fields of a YAML file; raise BrokenCheckpoint if it is not a YAML mapping."""
        try:
            content = yaml.load(self._read(path, at_most=_MAX_YAML_BYTES), _BoundedLoader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BrokenCheckpoint(
                f"{path} in {self.where} is not valid YAML: {error}", hint="Log it again."
            ) from error
        return self._mapping(content, path)

    def card(self, folder: PurePosixPath) -> dict[str, Any]:
        """Return the metadata of a folder's Hugging Face model card; empty if there is none."""
        card = folder / "README.md"
        if self.sizes.get(str(card), _MAX_YAML_BYTES) >= _MAX_YAML_BYTES:
            return {}
        parts = self._read(card, at_most=_MAX_YAML_BYTES).decode(errors="replace").split("---\n", maxsplit=2)
        if len(parts) < 3 or parts[0].strip():
            return {}
        try:
            metadata = yaml.load(parts[1], _BoundedLoader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, ValueError, RecursionError):  # a malformed card does not affect the weights
            return {}
        return metadata if isinstance(metadata, dict) else {}

    def names(self, folder: PurePosixPath) -> list[str]:
        """Return the names of the files directly inside a folder."""
        return [path.name for path in map(PurePosixPath, self.sizes) if path.parent == folder]

    def model_folder(self) -> PurePosixPath:
        """Return the folder that describes the model: the artifact itself, or the only folder with weights below it.

        sentence-transformers before 2.0 put the model into `0_Transformer`, and the hub's cache into `snapshots/…`.
        """
        top, with_weights = PurePosixPath(), self.folders_with_weights()
        markers = {MLMODEL, ADAPTER_CONFIG, CONFIG}.intersection(self.names(top))
        if MLMODEL in markers or top in with_weights:
            return top
        if len(with_weights) == 1 and not self._has_weights(top):
            return with_weights[0]
        if markers:
            return top
        paths = [PurePosixPath(path) for path in self.sizes]
        markers = {MLMODEL, ADAPTER_CONFIG, CONFIG}
        subfolders = sorted({path.parent for path in paths if path.name in markers and len(path.parts) == 2})
        if not subfolders:
            raise self.no_weights_error(top)
        if len(subfolders) > 1:
            raise self.several_models_error(subfolders)
        return subfolders[0]

    def folders_with_weights(self) -> list[PurePosixPath]:
        """Return the outermost folders with both a config and weights; a GGUF file is also its own config."""
        paths = [PurePosixPath(path) for path in self.sizes]
        described = {path.parent for path in paths if path.name in (CONFIG, ADAPTER_CONFIG)}
        with_weights = {path.parent for path in paths if _is_weights(path)}
        found = described & with_weights or {path.parent for path in paths if path.suffix.lower() == GGUF}
        return sorted(folder for folder in found if not found.intersection(folder.parents))

    def _has_weights(self, folder: PurePosixPath) -> bool:
        return any(_is_weights(PurePosixPath(path)) for path in self.sizes if PurePosixPath(path).parent == folder)

    def several_models_error(self, folders: Iterable[PurePosixPath]) -> UnsupportedCheckpoint:
        """Return the error for an artifact with more than one model."""
        return UnsupportedCheckpoint(
            f"{self.where} holds several models: {', '.join(map(str, folders))}",
            hint="Register one folder per model version.",
        )

    def no_weights_error(self, folder: PurePosixPath) -> BrokenCheckpoint | UnsupportedCheckpoint:
        """Return the most specific error for a folder without weights to embed."""
        names = sorted(path for path in self.sizes if PurePosixPath(path).is_relative_to(folder))
        pickles = [path for path in names if _is_pickle(PurePosixPath(path))]
        gguf = [path for path in names if path.lower().endswith(GGUF)]
        described = {CONFIG, ADAPTER_CONFIG} & {PurePosixPath(path).name for path in names}
        unnamed = [path for path in names if path.endswith(".safetensors")]
        if unnamed:
            lacks = "no index that names them" if described else "no config that describes them"
            return IncompleteCheckpoint(
                f"{self.where} has safetensors files ({unnamed[0]}), but {lacks}",
                hint="Register the whole folder that save_pretrained wrote.",
            )
        if any(path.endswith(".distcp") for path in names):
            return UnsupportedCheckpoint(
                f"{self.where} has its weights only as a distributed checkpoint of torch (*.distcp)",
                hint="Merge it (accelerate merge-weights) and register the result.",
            )
        if gguf:
            return UnsupportedCheckpoint(
                f"{self.where} has its weights only as GGUF ({gguf[0]}), beside the config of an adapter or elsewhere",
                hint="Register a folder with one GGUF file of a full model; an adapter as peft saves it.",
            )
        if pickles:
            return UnsupportedCheckpoint(
                f"{self.where} has its weights only as a pickle ({pickles[0]}), which can run code and is never opened",
                hint="Save the model with safetensors (save_pretrained does by default) and register that.",
            )
        if any(path.endswith(".npz") for path in names):
            return UnsupportedCheckpoint(
                f"{self.where} has its weights as arrays of NumPy or MLX (*.npz)", hint="Save them as safetensors."
            )
        if described:
            return IncompleteCheckpoint(f"{self.where} has a config but no weights", hint="Was the upload complete?")
        return NoLanguageModel(
            f"{self.where} holds no language model in a supported format (files: {', '.join(names[:5])})",
            hint="Register a Hugging Face folder, a PEFT folder, or a model logged with mlflow.transformers.",
        )

    def _read(self, path: PurePosixPath, *, at_most: int) -> bytes:
        if self.sizes[str(path)] > at_most:
            raise BrokenCheckpoint(f"{path} in {self.where} is too large for a config file", hint="Log it again.")
        return (self.files.fetch([str(path)]) / path).read_bytes()

    def _mapping(self, content: Any, path: PurePosixPath) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise BrokenCheckpoint(f"{path} in {self.where} is not a mapping", hint="Log it again.")
        return content


def _is_weights(path: PurePosixPath) -> bool:
    return path.suffix == ".safetensors" or path.suffix.lower() == GGUF or _is_pickle(path)


def _is_pickle(path: PurePosixPath) -> bool:
    return path.suffix in _PICKLES and not path.name.startswith(_NOT_WEIGHTS)
