"""Base of a full model, measured among the known bases of its shape. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deltadex.checkpoints.sketch import Sketch
from deltadex.lineage.kinship import SIGNIFICANT, beyond, cosine, holds
from deltadex.types import FloatArray


class BaseVerdict(StrEnum):
    """Verdict of the weights on the base."""

    CONFIRMED = "confirmed"
    ANOTHER = "another"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class MeasuredBase:
    """The base of a version as its weights tell it.

    Attributes
    ----------
    name
        The base; empty if it is undetermined.
    p
        Probability that weights of an independent training are as close to it, times the number of bases; None if
        undetermined.
    consistent
        Names of all known bases that the weights do not rule out.
    """

    verdict: BaseVerdict
    name: str
    p: float | None
    consistent: tuple[str, ...]


def measured_base(own: Sketch, bases: Mapping[str, Sketch]) -> MeasuredBase:
    """Return which of the bases of one layout a version was trained from.

    An adapter adds to any base of its shape, so its base is undetermined. A full model is close to its base, and seen
    from each other base it holds the way from that one to its own.

    Parameters
    ----------
    bases
        Sketches of versions of each base, by the base's name: the declared one first.
    """
    declared = next(iter(bases), "")
    if own.is_adapter or not bases:
        return MeasuredBase(BaseVerdict.UNDETERMINED, "", None, tuple(bases))
    values = {name: one.base for name, one in bases.items()}
    p_values = {
        name: beyond(cosine(own.weights, base), len(base), null=0.0) * len(values) for name, base in values.items()
    }
    consistent = [name for name, p in p_values.items() if p <= SIGNIFICANT]
    if not consistent:
        return MeasuredBase(BaseVerdict.UNDETERMINED, "", None, ())
    nearest = min(consistent, key=lambda name: float(np.linalg.norm(own.weights - values[name])))
    rivals = [
        name
        for name in consistent
        if name != nearest and not np.array_equal(values[name], values[nearest])
        and _may_come_from(own.weights, values[nearest], values[name])
    ]  # fmt: skip
    if rivals:
        return MeasuredBase(BaseVerdict.UNDETERMINED, "", None, (nearest, *rivals))
    is_declared = nearest == declared or np.array_equal(values[nearest], values[declared])
    verdict = BaseVerdict.CONFIRMED if is_declared else BaseVerdict.ANOTHER
    return MeasuredBase(verdict, declared if is_declared else nearest, min(1.0, p_values[nearest]), (nearest,))


def _may_come_from(weights: FloatArray, nearest: FloatArray, other: FloatArray) -> bool:
    """Return False if the weights hold the way from the other base to the nearest one, as those trained from it do."""
    way, step = ((each - other).astype(np.float64) for each in (nearest, weights))
    return not holds(way, step)
