"""Rank of the difference between a full model and its base: a difference of low rank can be served as an adapter.

A merged adapter is the rounded sum of base and update. The rounding has full rank, so the rank is the smallest one
that leaves nothing but rounding. docs/analyses.md gives what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.checkpoints.merge_check import ROUNDINGS
from deltadex.checkpoints.tensor_names import by_common_name, is_in_layer
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.types import FloatArray

#: Relative Frobenius error of an adapter beyond what rounding explains. Factors in bfloat16 err by .3 % themselves.
TOLERANCE = 0.01
#: Largest rank as a share of a matrix's smaller side, and largest adapter as a share of its checkpoint. Beyond that,
#: serving an adapter saves little.
LARGEST_RANK, LARGEST_SHARE = 1 / 4, 1 / 3
#: Energy of a difference, as a multiple of that of rounding, from which its rank can be told. A typical update is .4 of
#: a rounding step then; smaller ones are lost where the base was rounded too, and errors are no longer those of
#: uniform rounding.
_LEAST_SIGNAL = 2.5
#: Tolerance of the expected energy of rounding: of the model of uniform errors, and in standard errors of their squares
#: (each √.8 of the mean).
_MODEL_ERROR, _STANDARD_ERRORS = 0.01, 4.0
#: Matrices sampled per model, and rows and columns sampled of each: a part of a matrix of low rank has that rank.
_MATRICES, _SIDE = 8, 512
#: Elements compared of each tensor that another dtype than its base's makes different.
_COMPARED = 4096
#: Rounding step of each dtype, coarsest first, in steps of float32, and its smallest step.
_STEPS = {"bfloat16": (2.0**16, 0.0), "float16": (2.0**13, 2.0**-24), "float32": (1.0, 0.0)}


@dataclass(frozen=True)
class LowRank:
    """A difference between a full model and its base that an adapter can hold.

    Attributes
    ----------
    rank
        Largest rank of the sampled matrices.
    adapter_bytes, checkpoint_bytes
        Size of an adapter of this rank at all changed matrices, in the model's dtype, and of the model's tensors.
    error
        ||D - BA|| / ||D|| over the sampled matrices (Frobenius norms).
    rounding
        `error` of an exact update, expected from rounding to the model's dtype.
    sampled, matrices
        Number of matrices that were sampled, and that the finetune changed.
    """

    rank: int
    adapter_bytes: int
    checkpoint_bytes: int
    error: float
    rounding: float
    sampled: int
    matrices: int

    @property
    def is_worth_it(self) -> bool:
        """True if the adapter is small beside the model."""
        return self.adapter_bytes <= LARGEST_SHARE * self.checkpoint_bytes


@dataclass(frozen=True, eq=False)
class MatrixDifference:
    """The difference of one matrix from the base's.

    Attributes
    ----------
    values
        `(rows, columns)` float32.
    rounding
        Expected squared Frobenius norm of the rounding errors in it.
    """

    values: FloatArray
    rounding: float

    @classmethod
    def of(cls, matrix: FloatArray, base: FloatArray) -> MatrixDifference:
        """Return the difference of two matrices of one shape; the base may have been rounded before the merge."""
        dtype = _coarsest_dtype(matrix)
        values, from_rounded = matrix - base, matrix - ROUNDINGS[dtype](base)
        nearer = min(values, from_rounded, key=_energy)
        return cls(nearer, _rounding_energy(matrix, dtype))

    @property
    def energy(self) -> float:
        """Squared Frobenius norm."""
        return _energy(self.values)

    def smallest_rank(self, values: NDArray[np.floating]) -> int | None:
        """Return the smallest rank whose error is within the tolerance; None if more singular values are needed.

        Parameters
        ----------
        values
            `(k,)`: the largest singular values, in descending order.
        """
        rows, columns = self.values.shape
        ranks = np.arange(len(values) + 1)
        left = self.energy - np.cumsum([0.0, *np.square(values, dtype=np.float64)])
        # A fit of this rank takes its share of the rounding with it.
        slack = 1 + _MODEL_ERROR + _STANDARD_ERRORS * math.sqrt(0.8 / self.values.size)
        rounding = slack * self.rounding * (1 - ranks / rows) * (1 - ranks / columns)
        enough = np.flatnonzero(left <= TOLERANCE**2 * self.energy + rounding)
        return int(enough[0]) if len(enough) else None


def singular_values(values: FloatArray) -> NDArray[np.float64]:
    """Return all singular values of a matrix in descending order, as roots of its Gram matrix's eigenvalues."""
    wide = (values if values.shape[0] <= values.shape[1] else values.T).astype(np.float64)
    found: NDArray[np.float64] = np.sqrt(np.maximum(np.linalg.eigvalsh(wide @ wide.T)[::-1], 0.0))
    return found


def is_clear(energy: float, rounding: float) -> bool:
    """Return True if differences stand out of their rounding, so that their rank can be told; both are energies."""
    return math.isfinite(energy) and energy > 0 and energy >= _LEAST_SIGNAL * rounding


def is_adaptable(name: str, shape: tuple[int, ...]) -> bool:
    """Return True for weights that LoRA adapts and that servers take: matrices of layers, but not of experts."""
    return len(shape) == 2 and name.endswith(".weight") and is_in_layer(name) and ".experts." not in name


def is_rounded(values: FloatArray, base: FloatArray) -> bool:
    """Return True if values are those of the base, rounded to any dtype."""
    return any(np.array_equal(values, round_(base)) for round_ in ROUNDINGS.values())


def largest_rank(shape: tuple[int, ...]) -> int:
    """Return the largest rank of an adapter that is worth it for a matrix."""
    return int(min(shape) * LARGEST_RANK)


def low_rank(finetune: LocalCheckpoint, base: LocalCheckpoint, *, identical: Collection[str]) -> LowRank | None:
    """Estimate the rank of a model's difference from its base, from a bounded sample of both.

    Parameters
    ----------
    identical
        Names of the finetune's tensors that are bit-identical to the base's.

    Returns
    -------
    LowRank or None
        None if an adapter cannot hold the difference, if rounding hides its rank, or for adapters and quantized models.
    """
    if finetune.kind is not Kind.FULL or finetune.bits is not None or base.bits is not None:
        return None
    tensors = finetune.tensors()
    changed = _changed_matrices(tensors, base.tensors(), identical)
    if not changed:
        return None
    samples = [_sample(*changed[number]) for number in np.random.default_rng(0).permutation(len(changed))[:_MATRICES]]
    ranks, left = zip(*map(_rank, samples), strict=True)
    energy, rounding = (sum(getattr(one, name) for one in samples) for name in ("energy", "rounding"))
    if None in ranks or not is_clear(energy, rounding):
        return None
    itemsize = max((one.end - one.start) // math.prod(one.shape) for one, _ in changed)
    rank = max(ranks)
    found = LowRank(
        rank=rank,
        adapter_bytes=sum(rank * sum(one.shape) * itemsize for one, _ in changed),
        checkpoint_bytes=sum(one.end - one.start for one in tensors.values()),
        error=math.sqrt(max(0.0, sum(left)) / energy),
        rounding=math.sqrt(rounding / energy),
        sampled=len(samples),
        matrices=len(changed),
    )
    return found if found.is_worth_it else None


def _changed_matrices(
    tensors: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor], identical: Collection[str]
) -> list[tuple[StoredTensor, StoredTensor]]:
    """Return the changed matrices with those of the base; none if anything else was changed too."""
    ours, theirs = by_common_name(tensors, base)
    changed = []
    for name, full in ours.items():
        if full in identical:
            continue
        tensor, other = tensors[full], base.get(theirs.get(name, ""))
        if other is None or other.shape != tensor.shape or not (tensor.is_float and other.is_float):
            return []
        if tensor.dtype != other.dtype and _looks_rounded(tensor, other):
            continue
        if not is_adaptable(full, tensor.shape):
            return []
        changed.append((tensor, other))
    return changed


def _looks_rounded(tensor: StoredTensor, other: StoredTensor) -> bool:
    """Return True if the first elements are those of the base in another dtype."""
    count = min(math.prod(tensor.shape), _COMPARED)
    return is_rounded(tensor.floats(count), other.floats(count))


def _sample(tensor: StoredTensor, other: StoredTensor) -> MatrixDifference:
    """Return the difference at random rows and columns."""
    random = np.random.default_rng(0)
    rows, columns = (np.sort(random.permutation(length)[:_SIDE]) for length in tensor.shape)
    positions = (rows[:, None] * tensor.shape[1] + columns).ravel()
    shape = (len(rows), len(columns))
    return MatrixDifference.of(tensor.at(positions).reshape(shape), other.at(positions).reshape(shape))


def _rank(difference: MatrixDifference) -> tuple[int | None, float]:
    """Return the rank of a sampled difference, None if it is too large, and the energy that it leaves."""
    if not np.isfinite(difference.values).all():
        return None, 0.0
    values = singular_values(difference.values)
    rank = difference.smallest_rank(values[: largest_rank(difference.values.shape)])
    return rank, float(np.square(values[rank:]).sum())


def _coarsest_dtype(values: FloatArray) -> str:
    """Return the dtype that values were rounded to: it may be coarser than that of their file."""
    return next((dtype for dtype in _STEPS if np.array_equal(ROUNDINGS[dtype](values), values)), "float32")


def _rounding_energy(values: FloatArray, dtype: str) -> float:
    """Return the expected energy of rounding errors: uniform ones of a step s have a variance of s² / 12."""
    step, smallest = _STEPS[dtype]
    return _energy(np.maximum(np.spacing(np.abs(values)) * np.float32(step), np.float32(smallest))) / 12


def _energy(values: FloatArray) -> float:
    return float(np.einsum("ij,ij->", values, values, dtype=np.float64))
