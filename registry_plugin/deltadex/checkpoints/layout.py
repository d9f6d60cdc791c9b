"""What an artifact is, read from its small files only: which model, which weights, which base it names.

Recognised: plain Hugging Face and PEFT folders, MLflow's transformers flavour of both, each of them one folder further
down, and a pyfunc that carries one of them. What MLflow 3.17 really writes is in
tests/checkpoints/test_mlflow_layouts.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from deltadex.checkpoints.adapters import check_adapter, check_chain
from deltadex.checkpoints.architectures import check_model
from deltadex.checkpoints.artifact import ADAPTER_CONFIG, CONFIG, MLMODEL, Artifact
from deltadex.checkpoints.files import Files
from deltadex.checkpoints.mlmodel import Logged, read_mlmodel
from deltadex.checkpoints.tensors import StoredTensor, read_tensors, without_adapter
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

_INDEX = "model.safetensors.index.json"
_SUPPORT = (".json", ".txt", ".model")
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)


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
        """Return every tensor by name; what an adapter left behind in a full model is taken out of it.

        Raises
        ------
        BrokenCheckpoint
            A file is truncated or no safetensors file, or two files hold a tensor of the same name.
        """
        tensors = read_tensors(self.weight_files)
        return tensors if self.kind is Kind.ADAPTER else without_adapter(tensors)

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
    below
        The adapter that this one was trained on top of; see `chain`.
    """

    kind: Kind
    files: Files
    root: PurePosixPath
    weight_files: tuple[str, ...]
    support_files: tuple[str, ...]
    tokenizer_root: PurePosixPath | None
    config: Mapping[str, Any] = field(repr=False)
    declared_base: str | None
    below: Checkpoint | None = None

    def fetch(self) -> LocalCheckpoint:
        """Bring config, weights and tokenizer here, and nothing else."""
        local = self.files.fetch([*self.support_files, *self.weight_files])
        return LocalCheckpoint(
            kind=self.kind,
            folder=local / self.root,
            weight_files=tuple(local / path for path in self.weight_files),
            tokenizer_folder=None if self.tokenizer_root is None else local / self.tokenizer_root,
            below=None if self.below is None else self.below.fetch(),
        )


def inspect(files: Files) -> Checkpoint:
    """Find out what an artifact is, without reading its weights.

    Raises
    ------
    UnsupportedCheckpoint
        It is complete, but only a pickle or GGUF, no language model, quantized in a way that can't be undone, an
        adapter of a type that can't be loaded, needs code of its own, or holds several models.
    BrokenCheckpoint
        It is empty, or files that it names are missing.
    """
    artifact = Artifact(files)
    if not artifact.sizes:
        raise BrokenCheckpoint(f"{files.where} holds no files", hint="Was the upload complete? Log it again.")
    top = artifact.model_folder()
    logged = read_mlmodel(artifact, top) if artifact.has(top / MLMODEL) else Logged(top, top)
    return _inspect_folder(artifact, logged)


def chain(adapter: Checkpoint, below: Checkpoint) -> Checkpoint:
    """Return an adapter together with the one it was trained on top of; the base of both is the lower one's.

    Raises
    ------
    UnsupportedCheckpoint
        The two don't simply add up, or the lower one lies on a third.
    """
    if adapter.kind is not Kind.ADAPTER or below.kind is not Kind.ADAPTER:
        raise ValueError("only adapters can be chained")
    if below.below is not None:
        raise UnsupportedCheckpoint(
            f"{adapter.files.where} is the third adapter of a chain; Deltadex follows two",
            hint="Merge the lowest adapter into its base, and declare the result as the base.",
        )
    for one in (adapter, below):
        check_chain(one.config, one.files.where)
    return replace(adapter, below=below, declared_base=below.declared_base)


def _inspect_folder(artifact: Artifact, logged: Logged) -> Checkpoint:
    folder = logged.folder
    kind, config = _read_config(artifact, folder)
    check = check_adapter if kind is Kind.ADAPTER else check_model
    check(config, artifact.where)
    tokenizer_root = next((place for place in (logged.tokenizer, folder) if _has_tokenizer(artifact, place)), None)
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
        declared_base=_declared_base(artifact, logged, config),
    )


def _read_config(artifact: Artifact, folder: PurePosixPath) -> tuple[Kind, dict[str, Any]]:
    names = artifact.names(folder)
    adapter_weights = any(name.startswith("adapter_model.") for name in names)
    if ADAPTER_CONFIG in names and (adapter_weights or CONFIG not in names):  # merged models keep a stale one
        return Kind.ADAPTER, artifact.read_json(folder / ADAPTER_CONFIG)
    if CONFIG in names:
        return Kind.FULL, artifact.read_json(folder / CONFIG)
    raise artifact.without_weights(folder)


def _weight_files(artifact: Artifact, folder: PurePosixPath, kind: Kind) -> tuple[str, ...]:
    single = folder / ("adapter_model.safetensors" if kind is Kind.ADAPTER else "model.safetensors")
    if artifact.has(single):
        return (str(single),)
    if kind is Kind.ADAPTER or not artifact.has(folder / _INDEX):
        raise artifact.without_weights(folder)
    weight_map = artifact.read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BrokenCheckpoint(f"{folder / _INDEX} in {artifact.where} names no files", hint="Log it again.")
    shards = sorted({str(folder / str(name)) for name in weight_map.values()})
    missing = [shard for shard in shards if shard not in artifact.sizes]
    if missing:
        raise BrokenCheckpoint(
            f"{artifact.where} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}",
            hint="The upload was cut short: log the checkpoint again.",
        )
    return tuple(shards)


def _has_tokenizer(artifact: Artifact, folder: PurePosixPath) -> bool:
    return any(artifact.has(folder / name) for name in _TOKENIZERS)


def _declared_base(artifact: Artifact, logged: Logged, config: Mapping[str, Any]) -> str | None:
    """Return the first name there is: an adapter knows its base, a card is written by hand, a config only remembers."""
    card = artifact.card(logged.folder).get("base_model")
    if isinstance(card, list):
        card = card[0] if len(card) == 1 else None  # a merge of several has no one base
    card = card if isinstance(card, str) else None
    named = (config.get("base_model_name_or_path"), logged.declared_base, card, config.get("_name_or_path"))
    return next((str(name) for name in named if name), None)
