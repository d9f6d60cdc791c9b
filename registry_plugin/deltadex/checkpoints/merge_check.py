"""Sampled weights of models, used to detect LoRA merges (and quantized copies: `quantized_copy`).

A merged checkpoint is the rounded sum of base and update, and rounding is deterministic: each element of a merge can be
predicted exactly. So a sample of elements is more sensitive than any norm or projection of the difference, in which
the rounding of bfloat16 hides one training step. docs/analyses.md gives the measured margin between merges and other
models.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltadex.checkpoints.adapter_shapes import updates
from deltadex.checkpoints.adapters import chain_obstacle
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.checkpoints.tensor_names import by_common_name
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.types import FloatArray

#: Sampled positions in total, divided evenly among the base's matrices, and the minimum per matrix.
_POSITIONS, _MIN_PER_MATRIX = 1024, 8
#: Sampled positions in every other tensor; a merge never changes those tensors.
_PER_OTHER_TENSOR = 2
#: Minimum number of positions that the merge changed, and minimum share of them that equal the predicted merge. peft's
#: merges match in all but one in a thousand; after a training step that moves the adapter by a ten-thousandth, at most
#: .997 of them match (docs/analyses.md).
_MIN_MOVED = 200
_MIN_EQUAL = 0.998
#: Tolerance for float32, in units of least precision: sums of products depend on their order.
_TOLERANCE_STEPS = 16
#: peft's default for `lora_alpha`.
_DEFAULT_ALPHA = 8
#: Settings of updates that are more than a product scaled by the rank.
_UNPREDICTABLE = ("alpha_pattern", "lora_bias", "use_qalora", "use_bdlora")


#: A and B of one matrix.
Factors = tuple[StoredTensor, StoredTensor]


@dataclass(frozen=True, eq=False)
class Imprint:
    """Weights sampled at positions that all models of one base share.

    Attributes
    ----------
    values
        `(n,)` float32: weights of the model, or of an adapter's base; NaN where the model lacks the tensor.
    updates
        `(n,)` float32: update of these weights by an adapter; None for a full model.
    bits
        Bits per weight of a model that was quantized; None for any other.
    base
        `(n,)` float32, of a model that was quantized: weights of its base in matrices, NaN elsewhere, since norms are
        not quantized.
    """

    values: FloatArray
    updates: FloatArray | None
    bits: float | None = None
    base: FloatArray | None = None


@dataclass(frozen=True)
class Merge:
    """Evidence that a full model is an adapter merged into its base.

    Attributes
    ----------
    dtype
        Dtype that the sum was rounded to.
    equal
        Share of the changed positions that equal the predicted merge: exactly, or in float32 within a tolerance.
    moved
        Number of positions that the merge changed.
    """

    dtype: str
    equal: float
    moved: int


def merge_of(one: Imprint, other: Imprint) -> Merge | None:
    """Return the evidence that one of two models is the other one merged; None if it is not, or if this is unknown."""
    if (one.updates is None) == (other.updates is None):
        return None
    adapter, full = (one, other) if other.updates is None else (other, one)
    assert adapter.updates is not None  # noqa: S101 - the adapter is the one with updates
    if len(adapter.values) != len(full.values):
        return None
    known = np.isfinite(full.values)
    if adapter.updates[~known].any():
        return None
    samples = (adapter.values[known], adapter.updates[known], full.values[known])
    matches = [merge for dtype, round_ in ROUNDINGS.items() for merge in _merges(*samples, dtype=dtype, round_=round_)]
    return max(matches, key=lambda merge: merge.equal, default=None)


def _merges(
    base: FloatArray, update: FloatArray, full: FloatArray, *, dtype: str, round_: Callable[[FloatArray], FloatArray]
) -> Iterator[Merge]:
    """Yield a Merge for each rounding of base or update before the sum that reproduces the weights."""
    updated, rounded_base = update != 0, round_(base)
    tolerance = (
        _TOLERANCE_STEPS * np.spacing(np.maximum(np.abs(base), np.abs(update))) if dtype == "float32" else np.float32(0)
    )
    if not updated.any() or not np.array_equal(full[~updated], rounded_base[~updated]):
        return
    for summand, addend in ((rounded_base, update), (base, update), (rounded_base, round_(update))):
        expected = round_(summand + addend)
        moved = updated & (expected != rounded_base)
        if moved.sum() >= _MIN_MOVED:
            equal = float(np.mean((np.abs(full - expected) <= tolerance)[moved]))
            if equal >= _MIN_EQUAL:
                yield Merge(dtype, equal, int(moved.sum()))


def _bfloat16(values: FloatArray) -> FloatArray:
    """Round to the nearest number of eight significant bits, ties to even, as torch does."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: FloatArray = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return rounded


def _float16(values: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


ROUNDINGS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "float32": lambda values: values,
    "bfloat16": _bfloat16,
    "float16": _float16,
}


def imprint(checkpoint: LocalCheckpoint, base: LocalCheckpoint) -> Imprint | None:
    """Sample a model's weights at the positions derived from its base.

    Returns
    -------
    Imprint or None
        None if a merge cannot be predicted: an adapter that is not a plain LoRA on float matrices, tensors that the
        base lacks, a different vocabulary, or quantized weights.
    """
    tensors = base.tensors()
    if not _positions(tensors):
        return None
    if checkpoint.kind is Kind.FULL:
        found = _of_full(checkpoint.tensors(), tensors)
        if found is None or checkpoint.bits is None:
            return found
        return replace(found, bits=checkpoint.bits, base=_matrices(tensors))
    return _of_adapter(checkpoint, tensors)


def _of_full(tensors: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor]) -> Imprint | None:
    ours, theirs = by_common_name(tensors, base)
    by_base_name = {theirs[name]: tensors[full] for name, full in ours.items() if name in theirs}
    comparable = all(_is_comparable(tensor, base[name]) for name, tensor in by_base_name.items())
    if len(by_base_name) < len(tensors) or not comparable:
        return None
    values = [
        by_base_name[name].at(positions) if name in by_base_name else np.full(len(positions), np.nan, np.float32)
        for name, positions in _positions(base).items()
    ]
    return Imprint(np.concatenate(values), None)


def _matrices(base: Mapping[str, StoredTensor]) -> FloatArray:
    """Return the sampled weights of a base's matrices, NaN in its other tensors."""
    return np.concatenate(
        [
            base[name].at(at) if len(base[name].shape) > 1 else np.full(len(at), np.nan, np.float32)
            for name, at in _positions(base).items()
        ]
    )


def _is_comparable(one: StoredTensor, other: StoredTensor) -> bool:
    return one.shape == other.shape and one.is_float == other.is_float


def _of_adapter(adapter: LocalCheckpoint, base: Mapping[str, StoredTensor]) -> Imprint | None:
    config, tensors = adapter.read_config(), adapter.tensors()
    if adapter.below is not None or not is_plain_sum(config):
        return None
    ours, theirs = by_common_name([update.name for update in updates(tensors)], base)
    if not ours.keys() <= theirs.keys():
        return None
    factors = {theirs[name]: factors_of(tensors, full, base[theirs[name]]) for name, full in ours.items()}
    positions, are_squares_turned = _positions(base), stores_inputs_first(base)
    changes = []
    for name, at in positions.items():
        pair = factors.get(name, ())
        if pair is None:
            return None
        if not pair:
            changes.append(np.zeros(len(at), np.float32))
            continue
        change = update_at(pair, at, base[name].shape, config, are_squares_turned=are_squares_turned)
        if change is None:
            return None
        changes.append(change)
    return Imprint(np.concatenate([base[name].at(at) for name, at in positions.items()]), np.concatenate(changes))


def update_at(
    factors: Factors,
    at: NDArray[np.int64],
    shape: tuple[int, ...],
    config: Mapping[str, object],
    *,
    are_squares_turned: bool,
) -> FloatArray | None:
    """Return what an adapter adds to a matrix of the base at places in row order; None if the shapes do not fit.

    Parameters
    ----------
    shape
        Shape of the base's matrix.
    are_squares_turned
        As `stores_inputs_first`.
    """
    down, up = factors
    straight, turned = (up.shape[0], down.shape[1]), (down.shape[1], up.shape[0])
    if shape not in (straight, turned):
        return None
    rows, columns = np.divmod(at, shape[1])
    is_turned = are_squares_turned if straight == turned else shape == turned
    return _product(down, up, (columns, rows) if is_turned else (rows, columns), config)


def is_plain_sum(config: Mapping[str, object]) -> bool:
    """Return True if an adapter's update is the scaled product of its factors, and nothing else."""
    return not chain_obstacle(config) and not any(config.get(name) for name in _UNPREDICTABLE)


def factors_of(tensors: Mapping[str, StoredTensor], parameter: str, base: StoredTensor) -> Factors | None:
    """Return A and B of one matrix; None if its update is not a product of two float matrices."""
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
    """Return scaled B·A at these outputs and inputs, equal to a float32 product up to the order of summation."""
    rows, columns = at
    rank = down.shape[0]
    first = down.floats(math.prod(down.shape)).reshape(down.shape).astype(np.float64)
    second = up.floats(math.prod(up.shape)).reshape(up.shape).astype(np.float64)
    scaling = float(str(config.get("lora_alpha", _DEFAULT_ALPHA))) / (
        math.sqrt(rank) if config.get("use_rslora") else rank
    )
    change: FloatArray = (np.einsum("nr,rn->n", second[rows], first[:, columns]) * scaling).astype(np.float32)
    return change


def stores_inputs_first(base: Mapping[str, StoredTensor]) -> bool:
    """Return True for GPT-2 and its kind, which store matrices as (inputs, outputs).

    An adapter's `fan_in_fan_out` says so, too, but old ones of peft say it of any model, and peft corrects that as it
    loads them.
    """
    joint = [tensor.shape for name, tensor in base.items() if name.endswith(".c_attn.weight")]
    return any(inputs < outputs for inputs, outputs in joint)


def _positions(base: Mapping[str, StoredTensor]) -> dict[str, NDArray[np.int64]]:
    """Return sorted random positions in row order for each tensor, seeded by its name and shape."""
    floats = {name: tensor.shape for name, tensor in sorted(base.items()) if tensor.is_float and all(tensor.shape)}
    matrices = sum(len(shape) == 2 for shape in floats.values())
    per_matrix = max(_MIN_PER_MATRIX, _POSITIONS // max(1, matrices))
    positions = {}
    for name, shape in floats.items():
        seed = hashlib.sha256(f"{name} {shape}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        positions[name] = np.sort(
            random.integers(math.prod(shape), size=per_matrix if len(shape) == 2 else _PER_OTHER_TENSOR)
        )
    return positions
