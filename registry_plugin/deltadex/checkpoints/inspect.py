"""Inspection of an artifact from its small files only: kind of model, weight files, declared base.

Supported layouts: plain Hugging Face and PEFT folders, MLflow's transformers flavour of both, each of these one folder
deeper, and a pyfunc that contains one of them. tests/checkpoints/test_mlflow_layouts.py covers what MLflow 3.17 writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from deltadex.checkpoints.adapters import chain_obstacle, check_adapter
from deltadex.checkpoints.architectures import check_model
from deltadex.checkpoints.folder import ADAPTER_CONFIG, CONFIG, MLMODEL, Artifact
from deltadex.checkpoints.license import declared_license
from deltadex.checkpoints.mlmodel import Logged, read_mlmodel
from deltadex.checkpoints.quantization import named_method
from deltadex.checkpoints.tensors import (
    StoredTensor,
    read_tensors,
    with_peft_names,
    without_adapter,
    without_training_wrappers,
)
from deltadex.checkpoints.weight_files import Form, gguf_file, weight_files
from deltadex.downloads.files import Files
from deltadex.errors import IncompleteCheckpoint, UnsupportedCheckpoint

#: Suffixes of configs and tokenizer files.
SUPPORT_SUFFIXES = (".json", ".txt", ".model")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


class Kind(StrEnum):
    """Kinds of checkpoints."""

    ADAPTER = "adapter"
    FULL = "full"


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint with all files on this machine.

    Attributes
    ----------
    name
        The artifact, for messages.
    folder
        Folder with the config and the weights.
    weight_files
        All files with weights.
    tokenizer_folder
        Folder of the tokenizer; None if the artifact has none.
    below
        The adapter that this one was trained on top of.
    packed_by
        See `Description`; None for a plain copy.
    bits
        Bits per weight that a converted model was quantized to; None if it was not.
    """

    kind: Kind
    folder: Path
    weight_files: tuple[Path, ...]
    tokenizer_folder: Path | None
    below: LocalCheckpoint | None = None
    name: str = ""
    packed_by: str | None = None
    bits: float | None = None

    def __str__(self) -> str:
        return self.name or str(self.folder)

    def tensors(self) -> dict[str, StoredTensor]:
        """Return every tensor by the name that transformers or peft gives it, without traces of the training.

        Raises
        ------
        BrokenCheckpoint
            A file is truncated or not a safetensors file, or two files contain a tensor of the same name.
        """
        tensors = without_training_wrappers(read_tensors(self.weight_files))
        return with_peft_names(tensors) if self.kind is Kind.ADAPTER else without_adapter(tensors)

    @property
    def config_file(self) -> Path:
        """Path of `adapter_config.json` or `config.json`."""
        return self.folder / (ADAPTER_CONFIG if self.kind is Kind.ADAPTER else CONFIG)

    def read_config(self) -> dict[str, Any]:
        """Return the adapter's or the model's config."""
        config: dict[str, Any] = json.loads(self.config_file.read_bytes())
        return config


@dataclass(frozen=True, kw_only=True)
class Description:
    """Description of an artifact by its small files.

    Attributes
    ----------
    root
        Folder of config and weights inside the artifact; `.` for the artifact itself.
    weight_files, support_files
        Paths inside the artifact: the files with weights, and the configs and tokenizer files.
    tokenizer_root
        Folder of the tokenizer inside the artifact; None if there is none.
    declared_base
        Base named in the files: a name, a path on the training machine, or a URI.
    license
        Licence named in the model card, in lower case.
    chain_obstacle
        Why an adapter cannot be one of two on the same base; empty if it can.
    packed_by
        Form of weight files that are not safetensors, or the quantization that the config names; None for neither.
    """

    kind: Kind
    root: PurePosixPath
    weight_files: tuple[str, ...]
    support_files: tuple[str, ...]
    tokenizer_root: PurePosixPath | None
    declared_base: str | None
    license: str | None
    chain_obstacle: str
    packed_by: str | None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Description):
    """A checkpoint as described by its small files; the weights may still be remote.

    Attributes
    ----------
    below
        The adapter that this one was trained on top of; see `chain`.
    """

    files: Files
    below: Checkpoint | None = None

    def fetch(self) -> LocalCheckpoint:
        """Fetch config, weights and tokenizer only."""
        local = self.files.fetch([*self.support_files, *self.weight_files])
        return LocalCheckpoint(
            kind=self.kind,
            folder=local / self.root,
            weight_files=tuple(local / path for path in self.weight_files),
            tokenizer_folder=None if self.tokenizer_root is None else local / self.tokenizer_root,
            below=None if self.below is None else self.below.fetch(),
            name=self.files.where,
            packed_by=self.packed_by,
        )


def inspect(files: Files, *, read_pickles: bool = False) -> Checkpoint:
    """Inspect an artifact without reading its weights.

    Parameters
    ----------
    read_pickles
        Accept weights that are a pickle; see `EmbeddingSettings.read_pickles`.

    Raises
    ------
    UnsupportedCheckpoint
        It is complete, but has only a pickle, is not a language model, is an adapter of an unsupported type, or holds
        several models.
    BrokenCheckpoint
        It is empty, or files that it names are missing.
    """
    artifact = Artifact(files)
    if not artifact.sizes:
        raise IncompleteCheckpoint(f"{files.where} holds no files", hint="Was the upload complete? Log it again.")
    top = artifact.model_folder()
    logged = read_mlmodel(artifact, top) if artifact.has(top / MLMODEL) else Logged(top, top)
    return _inspect_folder(artifact, logged, read_pickles=read_pickles)


def chain(adapter: Checkpoint, below: Checkpoint) -> Checkpoint:
    """Combine an adapter with the one it was trained on top of. The lower one's base is the base of both.

    Raises
    ------
    UnsupportedCheckpoint
        The two do not simply add up, or the lower one is itself on top of another adapter.
    """
    if adapter.kind is not Kind.ADAPTER or below.kind is not Kind.ADAPTER:
        raise ValueError("only adapters can be chained")
    if below.below is not None:
        raise UnsupportedCheckpoint(
            f"{adapter.files.where} is the third adapter of a chain; Deltadex supports two",
            hint="Merge the lowest adapter into its base, and declare the result as the base.",
        )
    for part in (adapter, below):
        if part.chain_obstacle:
            raise UnsupportedCheckpoint(
                f"{part.files.where} is one of two stacked adapters, which only plain LoRA supports "
                f"(it has {part.chain_obstacle})",
                hint="Merge the lower adapter into its base, and declare the result as the base.",
            )
    return replace(adapter, below=below, declared_base=below.declared_base)


def _inspect_folder(artifact: Artifact, logged: Logged, *, read_pickles: bool) -> Checkpoint:
    folder = logged.folder
    kind, config = _read_config(artifact, folder)
    weights = weight_files(artifact, folder, is_adapter=kind is Kind.ADAPTER, read_pickles=read_pickles)
    if config or weights.form is not Form.GGUF:
        check = check_adapter if kind is Kind.ADAPTER else check_model
        check(config, artifact.where)
    tokenizer_root = next((path for path in (logged.tokenizer, folder) if _has_tokenizer(artifact, path)), None)
    folders = {folder} if tokenizer_root is None else {folder, tokenizer_root}
    support = [
        path for path in artifact.sizes if PurePosixPath(path).parent in folders and path.endswith(SUPPORT_SUFFIXES)
    ]
    return Checkpoint(
        kind=kind,
        files=artifact.files,
        root=folder,
        weight_files=weights.paths,
        support_files=tuple(support),
        tokenizer_root=tokenizer_root,
        declared_base=_declared_base(artifact, logged, config),
        license=declared_license(artifact, folder),
        chain_obstacle=chain_obstacle(config) if kind is Kind.ADAPTER else "",
        packed_by=_packed_by(weights.form, kind, config),
    )


def _read_config(artifact: Artifact, folder: PurePosixPath) -> tuple[Kind, dict[str, Any]]:
    names = artifact.names(folder)
    has_adapter_weights = any(name.startswith("adapter_model.") for name in names)
    if ADAPTER_CONFIG in names and (
        has_adapter_weights or CONFIG not in names
    ):  # merged models keep a stale adapter config
        return Kind.ADAPTER, artifact.read_json(folder / ADAPTER_CONFIG)
    if CONFIG in names:
        return Kind.FULL, artifact.read_json(folder / CONFIG)
    if gguf_file(artifact, folder):
        return Kind.FULL, {}  # it is inside the file
    raise artifact.no_weights_error(folder)


def _packed_by(form: Form, kind: Kind, config: Mapping[str, Any]) -> str | None:
    if form is not Form.SAFETENSORS:
        return str(form)
    return named_method(config) if kind is Kind.FULL else None


def _has_tokenizer(artifact: Artifact, folder: PurePosixPath) -> bool:
    return any(artifact.has(folder / name) for name in _TOKENIZER_FILES)


def _declared_base(artifact: Artifact, logged: Logged, config: Mapping[str, Any]) -> str | None:
    """Return the base's name from the most reliable source: adapter config, MLmodel, model card, model config."""
    card = artifact.card(logged.folder).get("base_model")
    if isinstance(card, list):
        card = card[0] if len(card) == 1 else None  # a merge of several models has no single base
    card = card if isinstance(card, str) else None
    names = (config.get("base_model_name_or_path"), logged.declared_base, card, config.get("_name_or_path"))
    return next((str(name) for name in names if name), None)
