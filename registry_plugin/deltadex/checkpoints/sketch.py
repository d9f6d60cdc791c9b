"""Samples of a version's weights that are kept to measure its lineage.

The sample is the same for all models of one layout, whatever their base: its places follow from the names and shapes of
the matrices. An adapter is sampled twice: its update at the same places, and its factors as they are stored, because
a training that goes on from an adapter keeps the random numbers that its A began with.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.checkpoints.adapter_shapes import updates
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.checkpoints.low_rank import is_adaptable
from deltadex.checkpoints.merge_check import Factors, factors_of, is_plain_sum, stores_inputs_first, update_at
from deltadex.checkpoints.tensor_names import bare_name, by_common_name
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.types import FloatArray

#: Sampled weights in all, spread evenly over the matrices; the fewest of one matrix, and the most matrices.
_PLACES, _FEWEST_PLACES, _MOST_MATRICES = 4096, 2, 1024
#: Components of an adapter that are sampled, at least, in whole modules; the fewest modules; entries of each factor.
_COMPONENTS, _FEWEST_MODULES, _ENTRIES = 384, 4, 4
#: Places and components of the part that is read of every version.
_COARSE_PLACES, _COARSE_COMPONENTS = 512, 64


@dataclass(frozen=True, eq=False)
class Sketch:
    """Sampled weights of one version.

    A *component* is a column of B and the row of A that it is multiplied with; an adapter of rank r has r per module.

    Attributes
    ----------
    layout
        Hex digest of the names and shapes of the base's matrices: only sketches of one layout are compared.
    base
        `(n,)` float32: weights of the declared base.
    deltas
        `(n,)` float32: what the version adds to them.
    modules
        `(m,)` int64: a hash of the module of each component, in ascending order; empty for a full model.
    down, up
        `(m, 4)` float32: entries of each component's row of A and column of B, as stored, without the scaling.
    """

    layout: str
    base: FloatArray
    deltas: FloatArray
    modules: NDArray[np.int64]
    down: FloatArray
    up: FloatArray

    @property
    def is_adapter(self) -> bool:
        """True if factors were sampled."""
        return len(self.modules) > 0

    @property
    def weights(self) -> FloatArray:
        """`(n,)` float32: the version's own weights."""
        found: FloatArray = self.base + self.deltas
        return found

    def coarse(self) -> Sketch:
        """Return a part of the sketch, small enough to read that of every version; without the base."""
        stride = max(1, len(self.deltas) // _COARSE_PLACES)
        first = slice(_COARSE_COMPONENTS)
        nothing = np.empty(0, np.float32)
        deltas = self.deltas[::stride]
        return Sketch(self.layout, nothing, deltas, self.modules[first], self.down[first], self.up[first])

    def to_bytes(self) -> bytes:
        """Return the arrays as little-endian bytes, after their lengths; the layout is kept beside them."""
        lengths = np.array([len(self.base), len(self.deltas), len(self.modules)], "<i8")
        floats = (self.base, self.deltas, self.down, self.up)
        return b"".join([lengths.tobytes(), self.modules.astype("<i8").tobytes(), *map(_float_bytes, floats)])

    @classmethod
    def from_bytes(cls, layout: str, content: bytes) -> Sketch:
        """Return the sketch that `to_bytes` wrote.

        Raises
        ------
        ValueError
            The content is not one.
        """
        base, deltas, components = (int(length) for length in np.frombuffer(content, "<i8", 3))
        modules = np.frombuffer(content, "<i8", components, 24).astype(np.int64)
        floats = np.frombuffer(content, "<f4", offset=24 + 8 * components).astype(np.float32)
        parts = np.split(floats, np.cumsum([base, deltas, components * _ENTRIES]))
        if [len(part) for part in parts] != [base, deltas, *[components * _ENTRIES] * 2]:
            raise ValueError(f"a sketch of {len(content)} bytes has other lengths than it says")
        down, up = (part.reshape(components, _ENTRIES) for part in parts[2:])
        return cls(layout, parts[0], parts[1], modules, down, up)


def _float_bytes(values: FloatArray) -> bytes:
    return values.astype("<f4").tobytes()


def sketch(checkpoint: LocalCheckpoint, base: LocalCheckpoint) -> Sketch | None:
    """Sample a version's weights.

    Returns
    -------
    Sketch or None
        None if what it adds to its base is not known weight by weight: an adapter that is more than a plain LoRA, a
        stack of two, a model without the base's matrices, or weights that are not finite.
    """
    found = _sampled(checkpoint, base)
    arrays = () if found is None else (found.base, found.deltas, found.down, found.up)
    return found if all(np.isfinite(each).all() for each in arrays) else None


def _sampled(checkpoint: LocalCheckpoint, base: LocalCheckpoint) -> Sketch | None:
    tensors = base.tensors()
    matrices = {bare_name(name): tensor for name, tensor in tensors.items() if _is_sampled(name, tensor)}
    if not matrices:
        return None
    content = "\n".join(f"{name} {tensor.shape}" for name, tensor in sorted(matrices.items()))
    layout = hashlib.sha256(content.encode()).hexdigest()
    places = _places(matrices)
    values = np.concatenate([matrices[name].at(at) for name, at in places.items()])
    if checkpoint.kind is Kind.FULL:
        own = _of_full(checkpoint.tensors(), matrices, places)
        nothing = np.empty((0, _ENTRIES), np.float32)
        return None if own is None else Sketch(layout, values, own - values, np.empty(0, np.int64), nothing, nothing)
    return _of_adapter(checkpoint, layout, values, places, matrices, is_turned=stores_inputs_first(tensors))


def _is_sampled(name: str, tensor: StoredTensor) -> bool:
    return tensor.is_float and all(tensor.shape) and is_adaptable(name, tensor.shape)


def _places(matrices: Mapping[str, StoredTensor]) -> dict[str, NDArray[np.int64]]:
    """Return sorted places in row order for each sampled matrix, seeded by its name and shape."""
    seeds = {name: _seed(f"{name} {tensor.shape}") for name, tensor in matrices.items()}
    chosen = sorted(seeds, key=lambda name: (seeds[name], name))[:_MOST_MATRICES]
    count = max(_FEWEST_PLACES, _PLACES // len(chosen))
    return {
        name: np.sort(np.random.default_rng(seeds[name]).integers(math.prod(matrices[name].shape), size=count))
        for name in sorted(chosen)
    }


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def _of_full(
    tensors: Mapping[str, StoredTensor],
    base: Mapping[str, StoredTensor],
    places: Mapping[str, NDArray[np.int64]],
) -> FloatArray | None:
    ours, theirs = by_common_name(tensors, base)
    own = {theirs[name]: tensors[full] for name, full in ours.items() if name in theirs}
    if any(name not in own or not own[name].is_float or own[name].shape != base[name].shape for name in places):
        return None
    return np.concatenate([own[name].at(at) for name, at in places.items()])


def _of_adapter(
    adapter: LocalCheckpoint,
    layout: str,
    values: FloatArray,
    places: Mapping[str, NDArray[np.int64]],
    base: Mapping[str, StoredTensor],
    *,
    is_turned: bool,
) -> Sketch | None:
    config, tensors = adapter.read_config(), adapter.tensors()
    if adapter.below is not None or not is_plain_sum(config):
        return None
    ours, theirs = by_common_name([update.name for update in updates(tensors)], base)
    factors: dict[str, Factors] = {}
    for name in ours.keys() & theirs.keys():
        pair = factors_of(tensors, ours[name], base[theirs[name]])
        if pair is None:
            return None
        factors[theirs[name]] = pair
    if not factors:
        return None
    deltas = []
    for name, at in places.items():
        delta = (
            update_at(factors[name], at, base[name].shape, config, are_squares_turned=is_turned)
            if name in factors
            else np.zeros(len(at), np.float32)
        )
        if delta is None:
            return None
        deltas.append(delta)
    return Sketch(layout, values, np.concatenate(deltas), *_components(factors))


def _components(factors: Mapping[str, Factors]) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Return the module of each sampled component, and entries of its factors."""
    seeds = {
        _seed(f"{name} {down.shape[1]} {up.shape[0]}"): (down, up) for name, (down, up) in factors.items()
    }  # an adapter of another rank has the same seeds: its blocks may be those of this one
    modules: list[NDArray[np.int64]] = []
    rows: list[FloatArray] = []
    columns: list[FloatArray] = []
    for seed, (down, up) in sorted(seeds.items()):
        if len(modules) >= _FEWEST_MODULES and sum(map(len, modules)) >= _COMPONENTS:
            break
        random, rank = np.random.default_rng(seed), down.shape[0]
        inputs, outputs = (random.integers(length, size=_ENTRIES) for length in (down.shape[1], up.shape[0]))
        components = np.arange(rank)
        rows.append(down.at((components[:, None] * down.shape[1] + inputs).ravel()).reshape(rank, -1))
        columns.append(up.at((outputs * rank + components[:, None]).ravel()).reshape(rank, -1))
        modules.append(np.full(rank, seed, np.int64))
    return np.concatenate(modules), np.concatenate(rows), np.concatenate(columns)
