"""Checks of a finetune's weights against those of its base."""

from __future__ import annotations

import heapq
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltadex.checkpoints.adapter_shapes import Update, fits, updates
from deltadex.checkpoints.adapters import PROMPT_TYPES
from deltadex.checkpoints.architectures import sections, vocabulary_sizes
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.checkpoints.quantization import check_quantization
from deltadex.checkpoints.tensor_names import by_common_name, is_in_layer
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.errors import BaseMismatch, BrokenCheckpoint, UnsupportedCheckpoint
from deltadex.types import BASE_TAG

#: Relative weight distance from which models count as unrelated. Independently trained matrices are nearly
#: orthogonal, so ||Wf - Wb|| / ||Wb|| = sqrt(1 + (||Wf|| / ||Wb||)²): never below 1, about 1.41 at equal norms. Full
#: finetunes stay far below 1.
UNRELATED_DISTANCE = 1.0

#: Cosine similarity of two adapters' B matrices from which one goes on from the other.
_SAME_ADAPTER = 0.5

#: Elements compared per tensor: enough to tell related from unrelated models, with bounded memory and reading.
_SAMPLE = 1 << 20
_LARGEST_SHOWN = 3
_LAYER = re.compile(r"^.*?\.\d+\.")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
#: Dtypes that no layer multiplies with.
_NO_NUMBERS = ("BOOL", "C64", "I64", "U64")
#: Suffixes of the scale tensors of quantized weights.
_SCALES = ("_scale_inv", "_scale", "_scales", "_blocks", ".scale")


@dataclass(frozen=True)
class Fit:
    """The evidence that a finetune came from a base.

    Attributes
    ----------
    compared
        Number of float matrices in both models; their first elements were compared.
    identical
        Number of them that are equal to the last bit in that sample.
    largest
        The largest values of ||Wf - Wb|| / ||Wb||, as (name in the base, distance), in descending order.
    modules
        Number of the base's modules that an adapter changes; 0 for full models and prompt adapters.
    remark
        Caveat for readers of the embedding; usually empty.
    """

    compared: int
    identical: int
    largest: tuple[tuple[str, float], ...]
    modules: int = 0
    remark: str = ""


def check_fit(finetune: LocalCheckpoint, base: LocalCheckpoint, *, base_name: str = "") -> Fit:
    """Check that a finetune can come from a base; reads a bounded part of the weights.

    A resized vocabulary is accepted: its common rows are compared. So is a different head. Which layers both models
    have is compared as they are loaded (`deltadex.engine.delta`), as one model's files may name them in many ways.

    Parameters
    ----------
    base_name
        Name of the base in messages; defaults to its folder.

    Raises
    ------
    BaseMismatch
        Names or shapes of tensors do not fit, or the weights are as far apart as those of unrelated models.
    UnsupportedCheckpoint
        The base is an adapter itself, or weights are quantized in a way that cannot be undone here.
    BrokenCheckpoint
        Tensors are empty, or hold numbers that are not finite.
    """
    name = base_name or str(base)
    if base.kind is not Kind.FULL:
        raise UnsupportedCheckpoint(
            f"The base {name} is an adapter itself", hint="Merge it into its own base and declare the result."
        )
    weights = _Base(name, base.read_config(), _readable(base))
    if finetune.kind is Kind.FULL:
        return _check_full(finetune, weights)
    if finetune.below is not None:
        _check_adapter(finetune.below, weights)
        _check_apart(finetune, finetune.below)
    return _check_adapter(finetune, weights)


@dataclass(frozen=True)
class _Base:
    name: str
    config: Mapping[str, object]
    tensors: Mapping[str, StoredTensor]

    def is_vocabulary(self, tensor: StoredTensor) -> bool:
        return bool(tensor.shape) and tensor.shape[0] in vocabulary_sizes(self.config)

    def mismatch(self, reason: str, *, measure: float | None = None) -> BaseMismatch:
        return _mismatch(self.name, reason, measure=measure)


def _mismatch(base_name: str, reason: str, *, measure: float | None = None) -> BaseMismatch:
    return BaseMismatch(
        f"The finetune does not fit the base {base_name}: {reason}",
        hint=f"Set the tag {BASE_TAG} on the model version to the base it was actually trained from.",
        measure=measure,
        threshold=None if measure is None else UNRELATED_DISTANCE,
    )


def _check_full(finetune: LocalCheckpoint, base: _Base) -> Fit:
    matrices = [
        {name: tensor for name, tensor in tensors.items() if len(tensor.shape) in (2, 3) and not name.endswith(_SCALES)}
        for tensors in (_readable(finetune), base.tensors)
    ]  # buffers, norms and scales carry little evidence
    ours, theirs = by_common_name(*matrices)
    common = sorted(ours.keys() & theirs.keys())
    own_sizes = vocabulary_sizes(finetune.read_config())
    if not common:
        raise base.mismatch(f"they have no tensor in common; the finetune has {next(iter(sorted(ours)), 'none')}")
    pairs = {}
    for name in common:
        mine, its = matrices[0][ours[name]], matrices[1][theirs[name]]
        resized = base.is_vocabulary(its) and mine.shape[0] in own_sizes and mine.shape[1:] == its.shape[1:]
        if mine.shape != its.shape and not resized and mine.is_float and its.is_float:
            raise base.mismatch(f"{name} has shape {mine.shape} and in the base {its.shape}")
        pairs[name] = (mine, its)
    return _measure(pairs, base)


def check_layers(finetune: Iterable[str], base: Iterable[str], *, base_name: str) -> None:
    """Check that two loaded models have the same parameters in their layers.

    Heads and tied embeddings may be missing, and so may a whole encoder, decoder or vision tower.

    Raises
    ------
    BaseMismatch
    """
    ours, theirs = by_common_name(finetune, base)
    unmatched = [*_unmatched(ours, theirs), *_unmatched(theirs, ours)]
    if unmatched:
        reason = f"{len(unmatched)} parameters are in only one of the two models, such as {unmatched[0]}"
        raise _mismatch(base_name, reason)


def _unmatched(names: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    parts = {name.partition(".")[0] for name in others}
    unmatched = sorted(names.keys() - others.keys())
    return [name for name in unmatched if is_in_layer(name) and name.partition(".")[0] in parts]


def _readable(checkpoint: LocalCheckpoint) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint whose weights are there, and are numbers that can be read."""
    tensors = checkpoint.tensors()
    empty = [name for name, tensor in tensors.items() if 0 in tensor.shape]
    if empty:
        raise BrokenCheckpoint(
            f"{len(empty)} of {len(tensors)} tensors of {checkpoint} are empty, such as {empty[0]}",
            hint="Under DeepSpeed ZeRO-3, gather the weights before saving: stage3_gather_16bit_weights_on_model_save.",
        )
    if checkpoint.kind is Kind.FULL:
        config = checkpoint.read_config()
        _check_layer_counts(config, len(tensors), checkpoint)
        check_quantization(config, tensors, checkpoint)
        for name, tensor in tensors.items():
            if len(tensor.shape) > 1 and tensor.dtype in _NO_NUMBERS and name.endswith(".weight"):
                raise BrokenCheckpoint(
                    f"{name} of {checkpoint} holds {tensor.dtype}", hint="Save the weights as floats."
                )
        return tensors
    for name, tensor in tensors.items():
        if tensor.is_float and not np.isfinite(tensor.floats(min(math.prod(tensor.shape), _SAMPLE))).all():
            raise _not_finite(f"{name} of {checkpoint}")
    return tensors


def _layer_counts(config: Mapping[str, object]) -> list[Any]:
    return [section[key] for section in sections(config) for key in _LAYER_COUNTS if key in section]


def _check_layer_counts(config: Mapping[str, object], tensors: int, checkpoint: LocalCheckpoint) -> None:
    """Refuse more layers than there are tensors: to build them would take hours, only to find none of their weights."""
    most = max((count for count in _layer_counts(config) if isinstance(count, int)), default=0)
    if most > tensors:
        raise BrokenCheckpoint(
            f"{checkpoint} has {tensors} tensors, and its config names {most} layers",
            hint="Save the model with save_pretrained and log it again.",
        )


def _not_finite(what: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"{what} holds NaN or infinity", hint="The training diverged, or the file is damaged: check the training run."
    )


def _measure(pairs: Mapping[str, tuple[StoredTensor, StoredTensor]], base: _Base, *, modules: int = 0) -> Fit:
    floats = {name: pair for name, pair in pairs.items() if pair[0].is_float and pair[1].is_float}
    distances = {name: _distance(*pair) for name, pair in floats.items()}
    for name, distance in distances.items():
        if not math.isfinite(distance):
            raise _not_finite(f"{name} of the finetune or of its base {base.name}")
    median = statistics.median(distances.values()) if distances else None
    if median is not None and median >= UNRELATED_DISTANCE:
        raise base.mismatch(
            f"relative weight distance {median:.2f}, unrelated models measure {UNRELATED_DISTANCE} or more",
            measure=median,
        )
    return Fit(
        compared=len(distances),
        identical=sum(distances[name] == 0 and one.dtype == other.dtype for name, (one, other) in floats.items()),
        largest=tuple(heapq.nlargest(_LARGEST_SHOWN, distances.items(), key=lambda item: item[1])),
        modules=modules,
    )


def _distance(finetune: StoredTensor, base: StoredTensor) -> float:
    """Return ||Wf - Wb|| / ||Wb|| over the first common elements; in a resized vocabulary these are common rows."""
    count = min(math.prod(finetune.shape), math.prod(base.shape), _SAMPLE)
    ours, theirs = finetune.floats(count), base.floats(count)
    norm = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(ours - theirs)) / norm if norm else float(bool(ours.any()))


def _check_adapter(adapter: LocalCheckpoint, base: _Base) -> Fit:
    tensors = _readable(adapter)
    config = adapter.read_config()
    if config.get("peft_type") in PROMPT_TYPES:
        _check_prompt(config, tensors, base)
        count = config.get("num_virtual_tokens")
        return Fit(0, 0, (), remark=f"{count} virtual tokens precede each probe, so the finetune reads a longer text")
    required = {update.name: update for update in updates(tensors)}
    ours, theirs = by_common_name(required, base.tensors)
    replaced, modules = {}, 0
    for name, full in ours.items():
        targets = [base.tensors[theirs[key]] for key in _candidates(name, theirs)]
        modules += bool(targets)
        update = required[full]
        if targets and not any(_fits(update, tensor, base) for tensor in targets):
            raise base.mismatch(
                f"the adapter changes {name} as a {update.shape} matrix, but in the base it is {targets[0].shape}"
            )
        if update.replacement is not None and targets and _is_pretrained(name, targets[0], base):
            replaced[name] = (update.replacement, targets[0])
    if not modules:
        raise base.mismatch(f"none of the adapter's modules exists in it, for example {next(iter(ours), 'any')}")
    return _measure(replaced, base, modules=modules)


def _check_apart(adapter: LocalCheckpoint, below: LocalCheckpoint) -> None:
    """Check that two stacked adapters are not states of one: the same update would count twice.

    The B matrices start at zero, so what they hold was learned: those of a training that went on point the same way,
    those of two trainings are close to orthogonal.
    """
    ours, theirs = adapter.tensors(), below.tensors()
    learned = [
        name for name in ours.keys() & theirs.keys() if ".lora_B." in name and ours[name].shape == theirs[name].shape
    ]
    count = {name: min(math.prod(ours[name].shape), _SAMPLE) for name in learned}
    one, other = (
        np.concatenate([tensors[name].floats(count[name]) for name in learned] or [np.zeros(1, np.float32)])
        for tensors in (ours, theirs)
    )
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    cosine = float(one @ other) / norms if norms else 0.0
    if cosine > _SAME_ADAPTER:
        raise UnsupportedCheckpoint(
            f"{adapter} is declared on top of {below}, which is the same adapter or an earlier state of it "
            f"(cosine similarity {cosine:.2f}): its update would count twice",
            hint=f"Set the tag {BASE_TAG} to the base that both were trained from.",
        )


def _is_pretrained(name: str, tensor: StoredTensor, base: _Base) -> bool:
    """Return False for a task head: heads are newly initialised for each task, so they carry no evidence."""
    return len(tensor.shape) == 2 and (base.is_vocabulary(tensor) or is_in_layer(name))


def _candidates(name: str, base: Mapping[str, str]) -> Iterator[str]:
    """Yield the parameters that an update may belong to: the one of that name, or any of the layer's experts.

    The storage of experts and the name of the surrounding block differ between file and model.
    """
    layer = _LAYER.match(name)
    if name in base:
        yield name
    elif layer and name.endswith(".experts.weight"):
        yield from (other for other in base if other.startswith(layer[0]) and ".experts." in other)


def _fits(update: Update, tensor: StoredTensor, base: _Base) -> bool:
    """Return True if an update fits a tensor, or if they cannot be compared (single experts, packed weights)."""
    single_expert = ".experts." in tensor.name and len(tensor.shape) < 3
    resized = base.is_vocabulary(tensor) and fits(update.shape[1:], tensor.shape[1:])
    return single_expert or not tensor.is_float or resized or fits(update.shape, tensor.shape)


def _check_prompt(config: Mapping[str, object], tensors: Mapping[str, StoredTensor], base: _Base) -> None:
    """Check the width of a prompt's embeddings, or the number of layers of a prefix."""
    width = next((tensor.shape[-1] for tensor in tensors.values() if tensor.name == "prompt_embeddings"), None)
    if config.get("peft_type") == "PREFIX_TUNING":
        counts = set(_layer_counts(base.config))
        if counts and config.get("num_layers") not in counts:
            raise base.mismatch(f"the prefix is for {config.get('num_layers')} layers, but the base has {counts}")
        return
    widths = {tensor.shape[-1] for tensor in base.tensors.values() if base.is_vocabulary(tensor)}
    if widths and width not in widths:
        raise base.mismatch(f"the prompt's embeddings have {width} dimensions, but the base's have {sorted(widths)}")
