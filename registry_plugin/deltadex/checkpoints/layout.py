"""What an artifact is, read from its small files only: which model, which weights, which base it names.

Recognised: plain Hugging Face and PEFT folders, MLflow's transformers flavour of both, and each of them one folder
further down. What MLflow 3.17 really writes is in tests/checkpoints/test_mlflow_layouts.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from deltadex.checkpoints.files import Files
from deltadex.checkpoints.tensors import StoredTensor, read_tensors
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

MLMODEL = "MLmodel"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_SUPPORT = (".json", ".txt", ".model")
_MAX_JSON_BYTES = 64 << 20
_MAX_YAML_BYTES = 1 << 20  # its parser is slow


class Kind(StrEnum):
    """What the weights are."""

    ADAPTER = "adapter"
    FULL = "full"


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint whose files are all on this machine.

    Attributes
    ----------
    folder
        Holds the config and the weights.
    weight_files
        Safetensors files, all of them.
    tokenizer_folder
        None where the artifact has no tokenizer.
    below
        The adapter that this one was trained on top of.
    """

    kind: Kind
    folder: Path
    weight_files: tuple[Path, ...]
    tokenizer_folder: Path | None
    below: LocalCheckpoint | None = None

    def tensors(self) -> dict[str, StoredTensor]:
        """Return every tensor by name."""
        return read_tensors(self.weight_files)

    @property
    def config_file(self) -> Path:
        """`adapter_config.json` or `config.json`."""
        return self.folder / (ADAPTER_CONFIG if self.kind is Kind.ADAPTER else CONFIG)

    def read_config(self) -> dict[str, Any]:
        """Return the adapter's or the model's config."""
        config: dict[str, Any] = json.loads(self.config_file.read_bytes())
        return config


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as its small files describe it; the weights may still be far away.

    Attributes
    ----------
    root
        The folder with config and weights inside the artifact, `.` for the artifact itself.
    weight_files, support_files
        Paths inside the artifact: safetensors, and the configs and tokenizer files that go with them.
    tokenizer_root
        The folder with the tokenizer inside the artifact, None where there is none.
    declared_base
        Whatever the files say this was finetuned from: a name, a path of the trainer's machine, a URI.
    """

    kind: Kind
    files: Files
    root: PurePosixPath
    weight_files: tuple[str, ...]
    support_files: tuple[str, ...]
    tokenizer_root: PurePosixPath | None
    config: Mapping[str, Any] = field(repr=False)
    declared_base: str | None

    def fetch(self) -> LocalCheckpoint:
        """Bring config, weights and tokenizer here, and nothing else."""
        local = self.files.fetch([*self.support_files, *self.weight_files])
        return LocalCheckpoint(
            kind=self.kind,
            folder=local / self.root,
            weight_files=tuple(local / path for path in self.weight_files),
            tokenizer_folder=None if self.tokenizer_root is None else local / self.tokenizer_root,
        )


def inspect(files: Files) -> Checkpoint:
    """Find out what an artifact is, without reading its weights.

    Raises
    ------
    UnsupportedCheckpoint
        It is complete, but only a pickle, no decoder-only language model, quantized, needs code of its own, or holds
        several models.
    BrokenCheckpoint
        It is empty, or files that it names are missing.
    """
    artifact = _Artifact(files)
    if not artifact.sizes:
        raise BrokenCheckpoint(f"{files.where} holds no files", hint="Was the upload complete? Log it again.")
    top = artifact.model_folder()
    if artifact.has(top / MLMODEL):
        return _inspect_mlflow(artifact, top)
    return _inspect_folder(artifact, top, tokenizer=top, declared=None)


class _Artifact:
    """Reads what `inspect` asks for."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.sizes = files.sizes()

    def has(self, path: PurePosixPath) -> bool:
        return str(path) in self.sizes

    def read(self, path: PurePosixPath, *, at_most: int) -> bytes:
        if self.sizes[str(path)] > at_most:
            raise BrokenCheckpoint(f"{path} in {self.files.where} is too large for a config", hint="Log it again.")
        return (self.files.fetch([str(path)]) / path).read_bytes()

    def read_json(self, path: PurePosixPath) -> dict[str, Any]:
        try:
            content = json.loads(self.read(path, at_most=_MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise BrokenCheckpoint(f"{path} in {self.files.where} is no JSON: {error}", hint="Log it again.") from error
        return self._mapping(content, path)

    def read_yaml(self, path: PurePosixPath) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self.read(path, at_most=_MAX_YAML_BYTES))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BrokenCheckpoint(f"{path} in {self.files.where} is no YAML: {error}", hint="Log it again.") from error
        return self._mapping(content, path)

    def _mapping(self, content: Any, path: PurePosixPath) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise BrokenCheckpoint(f"{path} in {self.files.where} holds no fields", hint="Log it again.")
        return content

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
            raise UnsupportedCheckpoint(
                f"{self.files.where} holds several models: {', '.join(map(str, below))}",
                hint="Register one folder per model version.",
            )
        return below[0]

    def without_weights(self, folder: PurePosixPath) -> BrokenCheckpoint | UnsupportedCheckpoint:
        """Return the error that says best why there is nothing to embed in a folder."""
        names = [path for path in self.sizes if PurePosixPath(path).is_relative_to(folder)]
        pickles = [path for path in names if path.endswith(_PICKLES)]
        if any(path.endswith(".safetensors") for path in names):
            return BrokenCheckpoint(
                f"{self.files.where} has safetensors files, but no config or index says what they are",
                hint="Register the whole folder that save_pretrained wrote.",
            )
        if pickles:
            return UnsupportedCheckpoint(
                f"{self.files.where} has its weights only as a pickle ({pickles[0]}), which can run code: never opened",
                hint="Save the model with safetensors (save_pretrained does by default) and register that.",
            )
        if {CONFIG, ADAPTER_CONFIG} & {PurePosixPath(path).name for path in names}:
            return BrokenCheckpoint(f"{self.files.where} has a config but no weights", hint="Was the upload complete?")
        return UnsupportedCheckpoint(
            f"{self.files.where} holds no language model that Deltadex knows (files: {', '.join(sorted(names)[:5])})",
            hint="Register a Hugging Face folder, a PEFT folder, or a model logged with mlflow.transformers.",
        )


def _inspect_mlflow(artifact: _Artifact, top: PurePosixPath) -> Checkpoint:
    mlmodel = artifact.read_yaml(top / MLMODEL)
    flavors = mlmodel.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    flavor = flavors.get("transformers")
    if not isinstance(flavor, dict):
        found = ", ".join(map(str, flavors)) or "unknown"
        raise UnsupportedCheckpoint(
            f"{artifact.files.where} is an MLflow model of flavour {found}, not transformers",
            hint="Log the model with mlflow.transformers, or register its Hugging Face folder.",
        )
    # Beside `peft`, MLflow may write a `model` that the adapter's own layers have got into (mlflow#23761): not read.
    folder = flavor.get("peft_adaptor") or flavor.get("model_binary")
    if not folder:
        raise UnsupportedCheckpoint(
            f"{artifact.files.where} only names {flavor.get('source_model_name')}: it was logged without its weights",
            hint="Log the model with save_pretrained=True.",
        )
    declared = flavor.get("source_model_name")
    tokenizer = top / "components" / "tokenizer"
    return _inspect_folder(artifact, top / str(folder), tokenizer=tokenizer, declared=declared)


def _inspect_folder(
    artifact: _Artifact, folder: PurePosixPath, *, tokenizer: PurePosixPath, declared: str | None
) -> Checkpoint:
    kind, config = _read_config(artifact, folder)
    reject = _reject_adapter if kind is Kind.ADAPTER else _reject_model
    reject(config, artifact.files.where)
    tokenizer_root = next((place for place in (tokenizer, folder) if _has_tokenizer(artifact, place)), None)
    folders = {folder} if tokenizer_root is None else {folder, tokenizer_root}
    support = [path for path in artifact.sizes if PurePosixPath(path).parent in folders and path.endswith(_SUPPORT)]
    return Checkpoint(
        kind=kind,
        files=artifact.files,
        root=folder,
        weight_files=_weight_files(artifact, folder, kind),
        support_files=tuple(support),
        tokenizer_root=tokenizer_root,
        config=config,
        declared_base=_declared_base(artifact, folder, config=config, mlmodel=declared),
    )


def _read_config(artifact: _Artifact, folder: PurePosixPath) -> tuple[Kind, dict[str, Any]]:
    names = artifact.names(folder)
    adapter_weights = any(name.startswith("adapter_model.") for name in names)
    if ADAPTER_CONFIG in names and (adapter_weights or CONFIG not in names):  # merged models keep a stale one
        return Kind.ADAPTER, artifact.read_json(folder / ADAPTER_CONFIG)
    if CONFIG in names:
        return Kind.FULL, artifact.read_json(folder / CONFIG)
    raise artifact.without_weights(folder)


def _reject_adapter(config: Mapping[str, Any], where: str) -> None:
    hint = "Deltadex embeds LoRA adapters of causal language models."
    if config.get("peft_type") != "LORA":
        raise UnsupportedCheckpoint(f"{where} is an adapter of type {config.get('peft_type')}", hint=hint)
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise UnsupportedCheckpoint(f"{where} is an adapter for the task {config['task_type']}", hint=hint)
    for feature in ("megatron_config", "alora_invocation_tokens", "arrow_config"):
        if config.get(feature):
            raise UnsupportedCheckpoint(f"{where} is an adapter with {feature}", hint=hint)


def _reject_model(config: Mapping[str, Any], where: str) -> None:
    architectures = config.get("architectures")
    architectures = [str(name) for name in architectures] if isinstance(architectures, list) else ["unknown"]
    if config.get("auto_map"):
        raise UnsupportedCheckpoint(
            f"{where} brings its own Python code (auto_map), which is never run", hint="Use a built-in architecture."
        )
    if config.get("quantization_config"):
        raise UnsupportedCheckpoint(
            f"{where} has quantized weights", hint="Register the adapter or the unquantized model."
        )
    decoder = any(name.endswith("ForCausalLM") or name == "GPT2LMHeadModel" for name in architectures)
    if config.get("is_encoder_decoder") or not decoder:
        raise UnsupportedCheckpoint(
            f"{where} is no decoder-only language model (architecture {', '.join(architectures)})",
            hint="Deltadex embeds causal language models and LoRA adapters of them.",
        )


def _weight_files(artifact: _Artifact, folder: PurePosixPath, kind: Kind) -> tuple[str, ...]:
    single = folder / ("adapter_model.safetensors" if kind is Kind.ADAPTER else "model.safetensors")
    if artifact.has(single):
        return (str(single),)
    if kind is Kind.ADAPTER or not artifact.has(folder / INDEX):
        raise artifact.without_weights(folder)
    weight_map = artifact.read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BrokenCheckpoint(f"{folder / INDEX} in {artifact.files.where} names no files", hint="Log it again.")
    shards = sorted({str(folder / str(name)) for name in weight_map.values()})
    missing = [shard for shard in shards if shard not in artifact.sizes]
    if missing:
        raise BrokenCheckpoint(
            f"{artifact.files.where} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}",
            hint="The upload was cut short: log the checkpoint again.",
        )
    return tuple(shards)


def _has_tokenizer(artifact: _Artifact, folder: PurePosixPath) -> bool:
    return any(artifact.has(folder / name) for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def _declared_base(
    artifact: _Artifact, folder: PurePosixPath, *, config: Mapping[str, Any], mlmodel: str | None
) -> str | None:
    if config.get("base_model_name_or_path"):
        return str(config["base_model_name_or_path"])
    named = (_card_base(artifact, folder), mlmodel, config.get("_name_or_path"))
    return next((str(name) for name in named if name), None)


def _card_base(artifact: _Artifact, folder: PurePosixPath) -> str | None:
    """Return `base_model` of a Hugging Face model card, where full finetunes on the hub declare it."""
    card = folder / "README.md"
    if artifact.sizes.get(str(card), _MAX_YAML_BYTES) >= _MAX_YAML_BYTES:
        return None
    parts = artifact.read(card, at_most=_MAX_YAML_BYTES).decode(errors="replace").split("---\n", maxsplit=2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        front = yaml.safe_load(parts[1])
    except (yaml.YAMLError, ValueError, RecursionError):  # a card is prose; a wrong one is no fault of the weights
        return None
    base = front.get("base_model") if isinstance(front, dict) else None
    return base[0] if isinstance(base, list) and len(base) == 1 else base if isinstance(base, str) else None
