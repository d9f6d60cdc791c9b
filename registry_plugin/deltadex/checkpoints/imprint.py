"""What a model's weights are at some thousand places: enough to know a merge from the adapter that was merged.

A merged checkpoint is not the sum of base and update but its rounding, and rounding is deterministic: element by
element it is known what a merge must hold. So a sample of elements tells far more than any norm or projection of the
difference, in which one training step drowns in the rounding of bfloat16. How far apart a merge and its nearest rivals
are is measured in docs/analyses.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.checkpoints.adapters import check_chain
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.checkpoints.names import in_common_terms
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.checkpoints.updates import updates
from deltadex.domain import FloatArray
from deltadex.errors import UnsupportedCheckpoint

#: Places in all, shared out evenly among the base's matrices, and how many in each other tensor, which no merge moves.
_PLACES = 1024
_FEWEST_EACH, _IN_OTHERS = 8, 2
#: Places that a merge must have moved, and the share of them where it must hold what merging gives. By peft it holds
#: all but one in a thousand of them, and .997 at most where a training step moved the adapter by a ten-thousandth
#: (docs/analyses.md).
_FEWEST_MOVED = 200
_LEAST_EQUAL = 0.998
#: float32 sums of products in another order differ by some of its steps.
_STEPS = 16
#: What peft takes where none is written.
_USUAL_ALPHA = 8
#: What scales an update other than by its rank, or adds more than a product.
_OTHERWISE = ("alpha_pattern", "lora_bias", "use_qalora", "use_bdlora")


@dataclass(frozen=True, eq=False)
class Imprint:
    """Weights at the same places of all models of one base.

    Attributes
    ----------
    values
        `(n,)` float32: the model's own weights, under an adapter those of its base; NaN where it has none.
    updates
        `(n,)` float32: what an adapter adds to them; None for a full model.
    """

    values: FloatArray
    updates: FloatArray | None


@dataclass(frozen=True)
class Merge:
    """An adapter, merged.

    Attributes
    ----------
    dtype
        In which the sum was rounded.
    equal
        Share of the places that the merge moved where it holds what merging gives, to the last bit.
    moved
        How many those are.
    """

    dtype: str
    equal: float
    moved: int


def merge_of(one: Imprint, other: Imprint) -> Merge | None:
    """Tell whether one of two models of a base is the other one merged; None where it is not, or can't be told."""
    if (one.updates is None) == (other.updates is None):
        return None
    adapter, full = (one, other) if other.updates is None else (other, one)
    assert adapter.updates is not None  # noqa: S101 - one of the two has some
    if len(adapter.values) != len(full.values):
        return None
    known = np.isfinite(full.values)
    if adapter.updates[~known].any():
        return None
    places = (adapter.values[known], adapter.updates[known], full.values[known])
    found = [merge for dtype, round_ in _ROUNDINGS.items() for merge in _merges(*places, dtype=dtype, round_=round_)]
    return max(found, key=lambda merge: merge.equal, default=None)


def _merges(
    base: FloatArray, update: FloatArray, full: FloatArray, *, dtype: str, round_: Callable[[FloatArray], FloatArray]
) -> Iterator[Merge]:
    """Yield the merge for each way that gives these weights: base or update may have been rounded before their sum."""
    touched, low = update != 0, round_(base)
    slack = _STEPS * np.spacing(np.maximum(np.abs(base), np.abs(update))) if dtype == "float32" else np.float32(0)
    if not touched.any() or not np.array_equal(full[~touched], low[~touched]):
        return
    for start, added in ((low, update), (base, update), (low, round_(update))):
        expected = round_(start + added)
        moved = touched & (expected != low)
        if moved.sum() >= _FEWEST_MOVED:
            equal = float(np.mean((np.abs(full - expected) <= slack)[moved]))
            if equal >= _LEAST_EQUAL:
                yield Merge(dtype, equal, int(moved.sum()))


def _bfloat16(values: FloatArray) -> FloatArray:
    """Round to the nearest number of eight significant bits, ties to even, as torch does."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: FloatArray = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return rounded


def _float16(values: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


_ROUNDINGS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "float32": lambda values: values,
    "bfloat16": _bfloat16,
    "float16": _float16,
}


def imprint(checkpoint: LocalCheckpoint, base: LocalCheckpoint) -> Imprint | None:
    """Read a model's weights at the places that its base has.

    Returns
    -------
    Imprint or None
        None where it can't be told what a merge would hold: an adapter that is no plain LoRA on matrices of floats,
        tensors that the base has not, another vocabulary, quantized weights.
    """
    if checkpoint.kind is Kind.FULL:
        return _of_full(checkpoint.tensors(), base.tensors())
    return _of_adapter(checkpoint, base.tensors())


def _of_full(tensors: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor]) -> Imprint | None:
    ours, theirs = in_common_terms(tensors, base)
    own = {theirs[name]: tensors[full] for name, full in ours.items() if name in theirs}
    if len(own) < len(tensors) or any(not _is_alike(mine, base[name]) for name, mine in own.items()):
        return None
    values = [
        own[name].at(places) if name in own else np.full(len(places), np.nan, np.float32)
        for name, places in _places(base).items()
    ]
    return Imprint(np.concatenate(values), None)


def _is_alike(one: StoredTensor, other: StoredTensor) -> bool:
    return one.shape == other.shape and one.is_float == other.is_float


def _of_adapter(adapter: LocalCheckpoint, base: Mapping[str, StoredTensor]) -> Imprint | None:
    config, tensors = adapter.read_config(), adapter.tensors()
    if adapter.below is not None or not _is_sum(config):
        return None
    ours, theirs = in_common_terms([update.name for update in updates(tensors)], base)
    if not ours.keys() <= theirs.keys():
        return None
    factors = {theirs[name]: _factors(tensors, full, base[theirs[name]]) for name, full in ours.items()}
    places = _places(base)
    added = []
    for name, at in places.items():
        pair = factors.get(name, ())
        if pair is None:
            return None
        shape = base[name].shape
        added.append(_product(*pair, np.divmod(at, shape[1]), config) if pair else np.zeros(len(at), np.float32))
    return Imprint(np.concatenate([base[name].at(at) for name, at in places.items()]), np.concatenate(added))


def _is_sum(config: Mapping[str, object]) -> bool:
    try:
        check_chain(config, "")
    except UnsupportedCheckpoint:
        return False
    return not any(config.get(name) for name in _OTHERWISE)


def _factors(
    tensors: Mapping[str, StoredTensor], parameter: str, base: StoredTensor
) -> tuple[StoredTensor, StoredTensor] | None:
    """Return A and B of one matrix; None where its update is no product of two."""
    module = parameter.removesuffix(".weight")
    down, up = (tensors.get(f"{module}.{part}.weight") for part in ("lora_A", "lora_B"))
    if down is None or up is None or any(len(one.shape) != 2 or not one.is_float for one in (down, up, base)):
        return None
    return down, up


def _product(
    down: StoredTensor,
    up: StoredTensor,
    at: tuple[NDArray[np.int64], NDArray[np.int64]],
    config: Mapping[str, object],
) -> FloatArray:
    """Return B·A times its scaling at these rows and columns, as float32 arithmetic has it but for its order."""
    rows, columns = at[::-1] if config.get("fan_in_fan_out") else at
    rank = down.shape[0]
    first = down.floats(math.prod(down.shape)).reshape(down.shape).astype(np.float64)
    second = up.floats(math.prod(up.shape)).reshape(up.shape).astype(np.float64)
    scaling = float(str(config.get("lora_alpha", _USUAL_ALPHA))) / (
        math.sqrt(rank) if config.get("use_rslora") else rank
    )
    change: FloatArray = (np.einsum("nr,rn->n", second[rows], first[:, columns]) * scaling).astype(np.float32)
    return change


def _places(base: Mapping[str, StoredTensor]) -> dict[str, NDArray[np.int64]]:
    """Return places in each tensor, in row order: always the same ones in a tensor of that name and shape."""
    floats = {name: tensor.shape for name, tensor in sorted(base.items()) if tensor.is_float and all(tensor.shape)}
    matrices = sum(len(shape) == 2 for shape in floats.values())
    each = max(_FEWEST_EACH, _PLACES // max(1, matrices))
    found = {}
    for name, shape in floats.items():
        seed = hashlib.sha256(f"{name} {shape}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        found[name] = np.sort(random.integers(math.prod(shape), size=each if len(shape) == 2 else _IN_OTHERS))
    return found
