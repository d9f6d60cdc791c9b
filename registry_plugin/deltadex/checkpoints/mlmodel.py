"""The `MLmodel` file: folders of the model and its tokenizer inside an artifact, and the declared base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from deltadex.checkpoints.folder import MLMODEL, Artifact
from deltadex.errors import NoLanguageModel, UnsupportedCheckpoint

#: Flavours of language models whose weights are logged elsewhere, or in a form that is not read.
_OTHER_TEXT_FLAVORS = ("sentence_transformers", "langchain", "llama_index", "openai", "dspy")


@dataclass(frozen=True)
class Logged:
    """Locations of the model and its tokenizer inside an artifact.

    Attributes
    ----------
    folder
        Folder of config and weights.
    tokenizer
        Folder of the tokenizer, if there is one.
    declared_base
        The name that MLflow recorded for the model before finetuning.
    """

    folder: PurePosixPath
    tokenizer: PurePosixPath
    declared_base: str | None = None


def read_mlmodel(artifact: Artifact, top: PurePosixPath) -> Logged:
    """Return the model described by an `MLmodel` file.

    Raises
    ------
    UnsupportedCheckpoint
        The flavour has no language model, or one that was logged without its weights.
    """
    flavors = artifact.read_yaml(top / MLMODEL).get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    flavor = flavors.get("transformers")
    if isinstance(flavor, dict):
        return _transformers(artifact, top, flavor)
    if set(flavors) == {"python_function"}:
        return _pyfunc(artifact)
    raise _not_transformers_error(artifact, ", ".join(map(str, flavors)) or "unknown")


def _transformers(artifact: Artifact, top: PurePosixPath, flavor: dict[str, Any]) -> Logged:
    # MLflow may write a `model` folder with the adapter's layers beside `peft` (mlflow#23761); it is not read.
    folder = _text(flavor, "peft_adaptor") or _text(flavor, "model_binary")
    base = _text(flavor, "source_model_name")
    if folder is None:
        raise UnsupportedCheckpoint(
            f"{artifact.where} only names {base}: it was logged without its weights",
            hint="Log the model with save_pretrained=True.",
        )
    return Logged(top / folder, top / "components" / "tokenizer", base)


def _text(flavor: dict[str, Any], field: str) -> str | None:
    value = flavor.get(field)
    return value if value and isinstance(value, str) else None


def _pyfunc(artifact: Artifact) -> Logged:
    """Return the only model folder inside a pyfunc; its pickled Python class is never opened."""
    folders = artifact.folders_with_weights()
    if len(folders) > 1:
        raise artifact.several_models_error(folders)
    if not folders:
        raise _not_transformers_error(artifact, "python_function")
    return Logged(folders[0], folders[0])


def _not_transformers_error(artifact: Artifact, flavor: str) -> UnsupportedCheckpoint:
    is_text = any(name in flavor for name in _OTHER_TEXT_FLAVORS)
    return (UnsupportedCheckpoint if is_text else NoLanguageModel)(
        f"{artifact.where} is an MLflow model of flavour {flavor}, not transformers",
        hint="Log the model with mlflow.transformers, or register its Hugging Face folder.",
    )
