"""Whether a finetune can have come from a base, by the weights themselves."""

from __future__ import annotations

import heapq
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from deltadex.checkpoints.adapters import PROMPT_TYPES
from deltadex.checkpoints.architectures import sections, vocabulary_sizes
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.checkpoints.names import in_common_terms
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.checkpoints.updates import Update, fits, updates
from deltadex.errors import BaseMismatch, UnsupportedCheckpoint

#: Tag of a model version that says what it was finetuned from, whatever its files say.
BASE_TAG = "deltadex.base"

#: Relative distance of weights from which a model is no finetune of a base. Independently trained matrices are nearly
#: orthogonal, so ||Wf - Wb|| / ||Wb|| = sqrt(1 + (||Wf|| / ||Wb||)²): never below 1, about 1.41 at equal norms. Full
#: finetunes stay far below 1.
UNRELATED_DISTANCE = 1.0

#: Enough of each tensor to tell relatives from strangers, and a bound on memory and reading.
_SAMPLE = 1 << 20
_SHOWN = 3
_LAYER = re.compile(r"^.*?\.\d+\.")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
#: What quantized weights carry beside themselves.
_SCALES = ("_scale_inv", "_scale", "_scales", "_blocks", ".scale")


@dataclass(frozen=True)
class Fit:
    """The evidence that a finetune came from a base.

    Attributes
    ----------
    compared
        Matrices of floats that both have, whose first elements were compared.
    identical
        How many of them are equal to the last bit in that sample.
    median_distance
        Median of ||Wf - Wb|| / ||Wb|| over them; None where there are none.
    largest
        The few largest of these distances: name in the base, distance; largest first.
    modules
        How many modules of the base an adapter changes; 0 for a full model and for prompts.
    remark
        What a reader of the embedding has to know; empty for most.
    """

    compared: int
    identical: int
    median_distance: float | None
    largest: tuple[tuple[str, float], ...]
    modules: int = 0
    remark: str = ""


def check_fit(finetune: LocalCheckpoint, base: LocalCheckpoint, *, base_name: str = "") -> Fit:
    """Make sure that a finetune can have come from a base; reads a bounded part of the weights.

    A vocabulary that was resized is fine: its common rows are compared. So is another head, and a part of the model
    (a decoder, a vision tower) that only one of the two has.

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
    weights = _Base(name, base.read_config(), base.tensors())
    if finetune.kind is Kind.FULL:
        return _check_full(finetune, weights)
    if finetune.below is not None:
        _check_adapter(finetune.below, weights)
    return _check_adapter(finetune, weights)


@dataclass(frozen=True)
class _Base:
    name: str
    config: Mapping[str, object]
    tensors: Mapping[str, StoredTensor]

    def is_vocabulary(self, tensor: StoredTensor) -> bool:
        return bool(tensor.shape) and tensor.shape[0] in vocabulary_sizes(self.config)

    def mismatch(self, reason: str, *, measure: float | None = None) -> BaseMismatch:
        return BaseMismatch(
            f"The finetune does not fit the base {self.name}: {reason}",
            hint=f"Set the tag {BASE_TAG} on the model version to the base it was really trained from.",
            measure=measure,
            threshold=None if measure is None else UNRELATED_DISTANCE,
        )


def _check_full(finetune: LocalCheckpoint, base: _Base) -> Fit:
    matrices = [
        {name: tensor for name, tensor in tensors.items() if len(tensor.shape) in (2, 3) and not name.endswith(_SCALES)}
        for tensors in (finetune.tensors(), base.tensors)
    ]  # buffers, norms and scales say little
    ours, theirs = in_common_terms(*matrices)
    common = sorted(ours.keys() & theirs.keys())
    own_sizes = vocabulary_sizes(finetune.read_config())
    lone = [*_lone(ours, theirs), *_lone(theirs, ours)]
    if lone or not common:
        example = [*lone, *sorted(ours), "any"][0]
        raise base.mismatch(f"{len(lone) or len(ours)} tensors are in only one of the two models, such as {example}")
    pairs = {}
    for name in common:
        mine, its = matrices[0][ours[name]], matrices[1][theirs[name]]
        resized = base.is_vocabulary(its) and mine.shape[0] in own_sizes and mine.shape[1:] == its.shape[1:]
        if mine.shape != its.shape and not resized and mine.is_float and its.is_float:
            raise base.mismatch(f"{name} has shape {mine.shape} and in the base {its.shape}")
        pairs[name] = (mine, its)
    return _measure(pairs, base)


def _lone(names: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """Return what only one model has although it is part of a layer that both should have.

    Heads and tied embeddings come and go; so does a whole encoder, decoder or vision tower. Experts are stored stacked
    or one by one.
    """
    parts = {name.partition(".")[0] for name in others}
    lone = sorted(names.keys() - others.keys())
    in_layers = [name for name in lone if _is_in_layer(name) and ".experts." not in name]
    return [name for name in in_layers if name.partition(".")[0] in parts]


def _measure(pairs: Mapping[str, tuple[StoredTensor, StoredTensor]], base: _Base, *, modules: int = 0) -> Fit:
    floats = {name: pair for name, pair in pairs.items() if pair[0].is_float and pair[1].is_float}
    distances = {name: _distance(*pair) for name, pair in floats.items()}
    median = statistics.median(distances.values()) if distances else None
    if median is not None and median >= UNRELATED_DISTANCE:
        raise base.mismatch(
            f"relative weight distance {median:.2f}, strangers have {UNRELATED_DISTANCE} or more", measure=median
        )
    return Fit(
        compared=len(distances),
        identical=sum(distances[name] == 0 and one.dtype == other.dtype for name, (one, other) in floats.items()),
        median_distance=median,
        largest=tuple(heapq.nlargest(_SHOWN, distances.items(), key=lambda item: item[1])),
        modules=modules,
    )


def _distance(finetune: StoredTensor, base: StoredTensor) -> float:
    """Return ||Wf - Wb|| / ||Wb|| over the first common elements, which of a resized vocabulary are common rows."""
    count = min(math.prod(finetune.shape), math.prod(base.shape), _SAMPLE)
    ours, theirs = finetune.floats(count), base.floats(count)
    norm = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(ours - theirs)) / norm if norm else float(bool(ours.any()))


def _check_adapter(adapter: LocalCheckpoint, base: _Base) -> Fit:
    tensors = adapter.tensors()
    config = adapter.read_config()
    if config.get("peft_type") in PROMPT_TYPES:
        _check_prompt(config, tensors, base)
        count = config.get("num_virtual_tokens")
        return Fit(0, 0, None, (), remark=f"{count} virtual tokens stand before each probe: it reads a longer text")
    wanted = {update.name: update for update in updates(tensors)}
    ours, theirs = in_common_terms(wanted, base.tensors)
    replaced, modules = {}, 0
    for name, full in ours.items():
        found = [base.tensors[theirs[key]] for key in _places(name, theirs)]
        modules += bool(found)
        update = wanted[full]
        if found and not any(_fits(update, tensor, base) for tensor in found):
            raise base.mismatch(
                f"the adapter changes {name} as a {update.shape} matrix, which in the base is {found[0].shape}"
            )
        if update.replacement is not None and found and _is_body(name, found[0], base):
            replaced[name] = (update.replacement, found[0])
    if not modules:
        raise base.mismatch(f"none of the adapter's modules exists in it, such as {next(iter(ours), 'any')}")
    return _measure(replaced, base, modules=modules)


def _is_body(name: str, tensor: StoredTensor, base: _Base) -> bool:
    """Tell whether a matrix is none of a task's head, which everyone starts anew and which tells nothing."""
    return len(tensor.shape) == 2 and (base.is_vocabulary(tensor) or _is_in_layer(name))


def _is_in_layer(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def _places(name: str, base: Mapping[str, str]) -> Iterator[str]:
    """Yield where an update may go: the parameter of that name, or any of the layer's experts.

    How experts are stored, and what the block around them is called, differs between file and model.
    """
    layer = _LAYER.match(name)
    if name in base:
        yield name
    elif layer and name.endswith(".experts.weight"):
        yield from (other for other in base if other.startswith(layer[0]) and ".experts." in other)


def _fits(update: Update, tensor: StoredTensor, base: _Base) -> bool:
    """Tell whether an update fits a tensor; one expert of many, or one that is packed, can't be compared."""
    one_of_many = ".experts." in tensor.name and len(tensor.shape) < 3
    resized = base.is_vocabulary(tensor) and fits(update.shape[1:], tensor.shape[1:])
    return one_of_many or not tensor.is_float or resized or fits(update.shape, tensor.shape)


def _check_prompt(config: Mapping[str, object], tensors: Mapping[str, StoredTensor], base: _Base) -> None:
    """Check what can be: the width of a prompt's embeddings, or the number of layers that a prefix is for."""
    width = next((tensor.shape[-1] for tensor in tensors.values() if tensor.name == "prompt_embeddings"), None)
    if config.get("peft_type") == "PREFIX_TUNING":
        counts = {section[key] for section in sections(base.config) for key in _LAYER_COUNTS if key in section}
        if counts and config.get("num_layers") not in counts:
            raise base.mismatch(f"the prefix is for {config.get('num_layers')} layers, which in the base are {counts}")
        return
    widths = {tensor.shape[-1] for tensor in base.tensors.values() if base.is_vocabulary(tensor)}
    if widths and width not in widths:
        raise base.mismatch(f"the prompt's embeddings have {width} dimensions, those of the base {sorted(widths)}")
