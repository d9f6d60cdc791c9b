"""Weight files of a folder: their names, and the form in which they hold the weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from deltadex.checkpoints.folder import Artifact
from deltadex.errors import BrokenCheckpoint, IncompleteCheckpoint, UnsupportedCheckpoint

#: What a folder of a full model and of an adapter call their weights.
_FULL, _ADAPTER = ("model", "pytorch_model"), ("adapter_model", "adapter_model")
#: Files beside a GGUF model that hold no language model: image encoders and importance matrices.
_NO_MODEL = ("mmproj", "imatrix")


class Form(StrEnum):
    """Forms of weight files."""

    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    PICKLE = "pickled"


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a model, as paths inside its artifact."""

    form: Form
    paths: tuple[str, ...]


def weight_files(artifact: Artifact, folder: PurePosixPath, *, is_adapter: bool, read_pickles: bool) -> WeightFiles:
    """Return the weight files of a folder: safetensors if there are any, else GGUF, else a pickle.

    Raises
    ------
    UnsupportedCheckpoint
        There is only a pickle and pickles are not read, or there are several GGUF models.
    BrokenCheckpoint
        Files that an index names are missing, or there are no weights.
    """
    safetensors, pickled = _ADAPTER if is_adapter else _FULL
    if paths := _named(artifact, folder, safetensors, ".safetensors"):
        return WeightFiles(Form.SAFETENSORS, paths)
    if not is_adapter and (path := gguf_file(artifact, folder)):
        return WeightFiles(Form.GGUF, (path,))
    if paths := _named(artifact, folder, pickled, ".bin"):
        if not read_pickles:
            raise _pickle_error(artifact, paths[0])
        return WeightFiles(Form.PICKLE, paths)
    raise artifact.no_weights_error(folder)


def gguf_file(artifact: Artifact, folder: PurePosixPath) -> str | None:
    """Return the only GGUF model of a folder; None if there is none.

    Raises
    ------
    UnsupportedCheckpoint
        There are several, or one in several files.
    """
    found = sorted(
        name
        for name in artifact.names(folder)
        if name.lower().endswith(".gguf") and not name.lower().startswith(_NO_MODEL)
    )
    if len(found) > 1:
        is_split = all(re.search(r"-\d{5}-of-\d{5}\.gguf$", name, re.IGNORECASE) for name in found)
        raise UnsupportedCheckpoint(
            f"{artifact.where} holds {'one model in ' if is_split else ''}{len(found)} GGUF files, such as {found[0]}",
            hint="Join them with `llama-gguf-split --merge`." if is_split else "Register one file per model version.",
        )
    return str(folder / found[0]) if found else None


def _named(artifact: Artifact, folder: PurePosixPath, stem: str, suffix: str) -> tuple[str, ...]:
    """Return one file, the files of an index, or numbered shards whose names say that all are there."""
    single, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
    if artifact.has(single):
        return (str(single),)
    if artifact.has(index):
        return _of_index(artifact, folder, index)
    pattern = re.compile(rf"{re.escape(stem)}-(\d{{5}})-of-(\d{{5}}){re.escape(suffix)}")
    found = sorted(filter(None, map(pattern.fullmatch, artifact.names(folder))), key=lambda shard: shard[0])
    complete = [(f"{number:05}", f"{len(found):05}") for number in range(1, len(found) + 1)]
    return tuple(str(folder / shard[0]) for shard in found) if [one.groups() for one in found] == complete else ()


def _of_index(artifact: Artifact, folder: PurePosixPath, index: PurePosixPath) -> tuple[str, ...]:
    weight_map = artifact.read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BrokenCheckpoint(f"{index} in {artifact.where} names no files", hint="Log it again.")
    shards = sorted({str(folder / str(name)) for name in weight_map.values()})
    missing = [shard for shard in shards if shard not in artifact.sizes]
    if missing:
        raise IncompleteCheckpoint(
            f"{artifact.where} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}",
            hint="The upload was cut short: log the checkpoint again.",
        )
    return tuple(shards)


def _pickle_error(artifact: Artifact, path: str) -> UnsupportedCheckpoint:
    name = PurePosixPath(path).name
    name = name if re.fullmatch(r"[\w.-]+", name) else "pytorch_model.bin"  # a reader may paste it into a shell
    plain = name.replace("pytorch_model", "model").removesuffix(".bin")
    return UnsupportedCheckpoint(
        f"{artifact.where} has its weights only as a pickle ({path}), which can run code and is never opened",
        hint=f"Where you trust it, convert each file: {conversion_command(name, f'{plain}.safetensors')} — or set "
        "DELTADEX_EMBEDDING__READ_PICKLES=true: torch's weights-only loader then reads it, in a process of its own.",
    )


def conversion_command(pickle: str, plain: str) -> str:
    """Return the command that converts a pickle of tensors to safetensors, without running the pickle's code."""
    return (
        'python -c "import torch, safetensors.torch as s; '
        f"s.save_file({{k: t.contiguous().clone() for k, t in torch.load('{pickle}', weights_only=True).items()}}, "
        f"'{plain}', {{'format': 'pt'}})\""
    )
