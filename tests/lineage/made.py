"""Sketches made of random numbers, for tests of what is done with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltadex.checkpoints.sketch import Sketch

_PLACES, _COMPONENTS = 4096, 128


def beginning(seed: int) -> Sketch:
    """Return the sketch of an adapter trained from a beginning of its own."""
    random = np.random.default_rng(seed)
    modules = np.sort(np.repeat(np.arange(_COMPONENTS // 8, dtype=np.int64), 8))
    base = np.random.default_rng(0).standard_normal(_PLACES).astype(np.float32)
    deltas = random.standard_normal(_PLACES).astype(np.float32) / 100
    down, up = (random.uniform(-1, 1, (_COMPONENTS, 4)).astype(np.float32) for _ in range(2))
    return Sketch("made", base, deltas, modules, down, up)


def trained_on(one: Sketch, seed: int) -> Sketch:
    """Return the sketch of an adapter that was trained on for a while."""
    step = beginning(seed)
    return replace(
        one, deltas=one.deltas + step.deltas * 0.8, down=one.down + step.down / 10, up=one.up + step.up * 0.8
    )


def linear(one: Sketch, other: Sketch) -> Sketch:
    """Return the sketch of the mean of the factors of two adapters."""
    # The product of sums has products of both, too.
    mixed = beginning(99).deltas
    return replace(
        one,
        deltas=(one.deltas + other.deltas + mixed) / 4,
        down=(one.down + other.down) / 2,
        up=(one.up + other.up) / 2,
    )
