"""Which base a finetune was made from, where that base is, and whether the two belong together."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from deltadex.checkpoints.layout import Checkpoint, Kind, LocalCheckpoint
from deltadex.checkpoints.tensors import StoredTensor, read_tensors
from deltadex.errors import BaseMismatch, BaseNotFound, UnsupportedCheckpoint

#: Tag of a model version that says what it was finetuned from, whatever its files say.
BASE_TAG = "deltadex.base"

#: Relative distance of weights from which a model is no finetune of a base. Independently trained matrices are nearly
#: orthogonal, so ||Wf - Wb|| / ||Wb|| = sqrt(1 + (||Wf|| / ||Wb||)²): never below 1, about 1.41 at equal norms. Full
#: finetunes stay far below 1.
UNRELATED_DISTANCE = 1.0

#: Enough of each tensor to tell relatives from strangers, and a bound on memory and reading.
_SAMPLE = 1 << 20

#: What wraps a module's name, depending on the class a model was saved from.
_PREFIX = re.compile(r"^(base_model\.model\.)?(model\.|transformer\.)?")
_LORA = re.compile(r"^(?P<module>.+)\.lora_(?P<side>A|B|embedding_A|embedding_B)(\.weight)?$")


def declared_base(checkpoint: Checkpoint, tags: Mapping[str, str]) -> str:
    """Return the name of the base: the version's `deltadex.base` tag, else what its files say.

    Raises
    ------
    BaseNotFound
        Nothing names a base.
    """
    declared = tags.get(BASE_TAG) or checkpoint.declared_base
    if not declared:
        raise BaseNotFound(
            f"{checkpoint.files.where} does not say which base it was finetuned from",
            hint=f"Set the tag {BASE_TAG} on the model version to a folder, a models:/ URI or a known name.",
        )
    return declared


def locate_base(declared: str, bases: Mapping[str, str]) -> str:
    """Return the folder or `models:/` URI at which a declared base is found.

    Parameters
    ----------
    bases
        The mapping of the settings; it goes before a folder of that name.

    Raises
    ------
    BaseNotFound
        The name is not in the mapping, and neither an absolute path of a folder here nor a `models:/` URI.
    """
    if declared in bases:
        return bases[declared]
    if declared.startswith("models:/") or (Path(declared).is_absolute() and Path(declared).is_dir()):
        return declared
    example = json.dumps({**bases, declared: "<folder or models:/name/version>"})
    raise BaseNotFound(
        f"The base {declared} is not on this machine and not in the settings", hint=f"Set DELTADEX_BASES='{example}'."
    )


def check_fit(finetune: LocalCheckpoint, base: LocalCheckpoint, *, base_name: str = "") -> None:
    """Make sure that a finetune can have come from a base; reads a bounded part of the weights.

    A vocabulary that was resized is fine: its common rows are compared.

    Parameters
    ----------
    base_name
        How messages call the base; its folder where nothing better is known.

    Raises
    ------
    BaseMismatch
        Names or shapes of tensors don't fit, or the weights are as far apart as strangers.
    UnsupportedCheckpoint
        The base is an adapter itself.
    """
    name = base_name or str(base.folder)
    if base.kind is not Kind.FULL:
        raise UnsupportedCheckpoint(
            f"The base {name} is an adapter itself", hint="Merge it into its own base and declare the result."
        )
    base_matrices = _Matrices(base, name)
    if finetune.kind is Kind.ADAPTER:
        _check_adapter(finetune, base_matrices)
    else:
        _check_full(_Matrices(finetune, str(finetune.folder)), base_matrices)


class _Matrices:
    """The tensors of two and three dimensions of a full model, by bare module name: buffers and norms say little."""

    def __init__(self, checkpoint: LocalCheckpoint, name: str) -> None:
        self.name = name
        self.vocabulary = checkpoint.read_config().get("vocab_size")
        tensors = read_tensors(checkpoint.weight_files).values()
        self.by_name = {_bare(tensor.name): tensor for tensor in tensors if len(tensor.shape) in (2, 3)}

    def is_vocabulary(self, name: str) -> bool:
        return self.by_name[name].shape[0] == self.vocabulary


def _check_full(finetune: _Matrices, base: _Matrices) -> None:
    lone = [*_lone(finetune, base), *_lone(base, finetune)]
    if lone:
        raise _mismatch(base, f"{len(lone)} tensors are in only one of the two models, such as {lone[0]}")
    common = finetune.by_name.keys() & base.by_name.keys()
    for name in sorted(common):
        ours, theirs = finetune.by_name[name].shape, base.by_name[name].shape
        resized = finetune.is_vocabulary(name) and base.is_vocabulary(name) and ours[1:] == theirs[1:]
        if ours != theirs and not resized:
            raise _mismatch(base, f"{name} has shape {ours} and in the base {theirs}")
    pairs = [(finetune.by_name[name], base.by_name[name]) for name in common]
    distances = [_distance(*pair) for pair in pairs if pair[0].is_float and pair[1].is_float]
    distance = statistics.median(distances) if distances else 0.0
    if distance >= UNRELATED_DISTANCE:
        raise _mismatch(base, f"relative weight distance {distance:.2f}, strangers have {UNRELATED_DISTANCE} or more")


def _lone(one: _Matrices, other: _Matrices) -> list[str]:
    """Return what only one model has; a tied output embedding may be stored or left out."""
    return sorted(name for name in one.by_name.keys() - other.by_name.keys() if not one.is_vocabulary(name))


def _distance(finetune: StoredTensor, base: StoredTensor) -> float:
    """Return ||Wf - Wb|| / ||Wb|| over the first common elements, which of a resized vocabulary are common rows."""
    count = min(math.prod(finetune.shape), math.prod(base.shape), _SAMPLE)
    ours, theirs = finetune.floats(count), base.floats(count)
    norm = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(ours - theirs)) / norm if norm else 0.0


def _check_adapter(adapter: LocalCheckpoint, base: _Matrices) -> None:
    shapes = list(_updates(read_tensors(adapter.weight_files)))
    known = [(module, shape) for module, shape in shapes if module in base.by_name]
    if not known:
        example = shapes[0][0] if shapes else "any"
        raise _mismatch(base, f"none of the adapter's modules exists in it, such as {example}")
    for module, shape in known:
        theirs = base.by_name[module].shape
        resized = base.is_vocabulary(module) and shape[1:] == theirs[1:]
        if len(theirs) == 2 and theirs not in (shape, shape[::-1]) and not resized:  # GPT-2 stores transposed
            raise _mismatch(base, f"the adapter changes {module} as a {shape} matrix, which in the base is {theirs}")


def _updates(tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each matrix an adapter changes or replaces: its bare name and its shape."""
    sides: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        lora = _LORA.match(name)
        if lora:
            sides.setdefault(lora["module"], {})[lora["side"]] = tensor
        elif len(tensor.shape) == 2:
            yield _bare(name), tensor.shape
    for module, pair in sides.items():
        if {"A", "B"} <= pair.keys():
            yield _bare(f"{module}.weight"), (pair["B"].shape[0], pair["A"].shape[1])
        elif {"embedding_A", "embedding_B"} <= pair.keys():
            yield _bare(f"{module}.weight"), (pair["embedding_A"].shape[1], pair["embedding_B"].shape[0])


def _bare(name: str) -> str:
    return _PREFIX.sub("", name).replace(".base_layer.", ".")


def _mismatch(base: _Matrices, reason: str) -> BaseMismatch:
    return BaseMismatch(
        f"The finetune does not fit the base {base.name}: {reason}",
        hint=f"Set the tag {BASE_TAG} on the model version to the base it was really trained from.",
    )
