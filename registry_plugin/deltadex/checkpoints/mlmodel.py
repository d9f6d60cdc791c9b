"""What MLflow logged: which of an artifact's folders is the model, where its tokenizer is, which base it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from deltadex.checkpoints.artifact import MLMODEL, Artifact
from deltadex.errors import UnsupportedCheckpoint


@dataclass(frozen=True)
class Logged:
    """The part of an artifact that is the model.

    Attributes
    ----------
    folder
        Config and weights.
    tokenizer
        Where a tokenizer is, if there is one.
    declared_base
        What MLflow noted as the name of the model before it was finetuned.
    """

    folder: PurePosixPath
    tokenizer: PurePosixPath
    declared_base: str | None = None


def read_mlmodel(artifact: Artifact, top: PurePosixPath) -> Logged:
    """Return the model that an `MLmodel` file describes.

    Raises
    ------
    UnsupportedCheckpoint
        The flavour holds no language model, or names one that was logged without its weights.
    """
    flavors = artifact.read_yaml(top / MLMODEL).get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    flavor = flavors.get("transformers")
    if isinstance(flavor, dict):
        return _transformers(artifact, top, flavor)
    if set(flavors) == {"python_function"}:
        return _wrapped(artifact)
    raise _not_transformers(artifact, ", ".join(map(str, flavors)) or "unknown")


def _transformers(artifact: Artifact, top: PurePosixPath, flavor: dict[str, Any]) -> Logged:
    # Beside `peft`, MLflow may write a `model` that the adapter's own layers have got into (mlflow#23761): not read.
    folder = flavor.get("peft_adaptor") or flavor.get("model_binary")
    if not folder:
        raise UnsupportedCheckpoint(
            f"{artifact.where} only names {flavor.get('source_model_name')}: it was logged without its weights",
            hint="Log the model with save_pretrained=True.",
        )
    declared = flavor.get("source_model_name")
    return Logged(top / str(folder), top / "components" / "tokenizer", str(declared) if declared else None)


def _wrapped(artifact: Artifact) -> Logged:
    """Return the one model folder that a pyfunc carries with it; its pickled Python class is never opened."""
    folders = artifact.folders_with_weights()
    if len(folders) > 1:
        raise artifact.several(folders)
    if not folders:
        raise _not_transformers(artifact, "python_function")
    return Logged(folders[0], folders[0])


def _not_transformers(artifact: Artifact, found: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(
        f"{artifact.where} is an MLflow model of flavour {found}, not transformers",
        hint="Log the model with mlflow.transformers, or register its Hugging Face folder.",
    )
