"""How a registered model moves from version to version: direction and strength apart, beside what is only noise.

A version is a *change point* where it is farther than a limit, and farther than noise reaches, from the reference: the
last change point, or the first version. It is the next reference. So a jump is flagged once, and so is a model that
creeps away in steps of which each is small; one that stays near where it was is never flagged.

Two versions that share no recipe can't be compared: another base, or another recipe, is a break in the line, after
which it begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deltadex.analysis.similarity import unit_vectors
from deltadex.analysis.strength import noise_distance
from deltadex.domain import FloatArray


class Break(StrEnum):
    """Why two versions in a row can't be compared."""

    BASE = "another base"
    RECIPE = "another recipe"


class Change(StrEnum):
    """How a version came to be far from the reference."""

    JUMP = "jump"
    CREEP = "creep"


@dataclass(frozen=True)
class Space:
    """A recipe, as far as moves in it can be told from noise.

    Attributes
    ----------
    noise_floor
        As in `deltadex.domain.Embedding`.
    reseed_distance
        As in `deltadex.analysis.calibration.Calibration`: a move that is shorter may be nothing but another seed.
    """

    base_digest: str
    noise_floor: float | None = None
    reseed_distance: float | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """One version under one recipe.

    Attributes
    ----------
    vector
        `(d,)` float32, not normalised.
    strength
        As in `deltadex.domain.Embedding`.
    probes
        `(n_probes, d)`, in any one unit; None where they were not kept.
    """

    vector: FloatArray
    strength: float
    probes: FloatArray | None = None


@dataclass(frozen=True)
class Move:
    """From one version to another.

    Attributes
    ----------
    recipe_id
        The recipe that both were compared under.
    distance
        Cosine distance, in [0, 2]: how far the direction moved.
    strength_ratio
        Strength over that of the other version; None where that one was zero.
    probe_distances
        Cosine distance of each probe's delta; None where they were not kept.
    noise
        The cosine distance that noise alone reaches.
    """

    recipe_id: int
    distance: float
    strength_ratio: float | None
    probe_distances: tuple[float, ...] | None
    noise: float

    @property
    def is_beyond_noise(self) -> bool:
        """Whether the direction moved farther than noise alone reaches."""
        return self.distance > self.noise

    def changes_strength(self, limit: float) -> bool:
        """Tell whether the version is `limit` times stronger than the other one, or that much weaker."""
        ratio = self.strength_ratio
        return ratio is not None and (ratio >= limit or ratio <= 1 / limit)


@dataclass(frozen=True)
class Step:
    """One version on the line, after the first.

    Attributes
    ----------
    broken
        Why it can't be compared with the version before; None where it can.
    previous, first, alias
        From the version before, from the first since the last break, and from the one that an alias points at; None
        where there is none that shares a recipe.
    change
        Set where it is a change point.
    reference
        Place of the version that it is a change from; None where it is no change point.
    measure
        Cosine distance to the reference; None where it is no change point.
    """

    broken: Break | None
    previous: Move | None
    first: Move | None
    alias: Move | None
    change: Change | None = None
    reference: int | None = None
    measure: float | None = None


#: A version under each recipe that it was embedded under.
Point = Mapping[int, Measured]


def follow(line: Sequence[Point], spaces: Mapping[int, Space], *, limit: float, alias: int | None = None) -> list[Step]:
    """Return the `n - 1` steps of a registered model.

    Parameters
    ----------
    line
        Its versions, oldest first, without those too weak to place.
    spaces
        Each recipe by id.
    limit
        Cosine distance from the reference at which a version is a change point.
    alias
        Place of the version that an alias points at.
    """
    first = reference = 0
    steps = []
    for place in range(1, len(line)):
        previous = move(line[place - 1], line[place], spaces)
        if previous is None:
            first = reference = place
        target = None if alias is None else move(line[alias], line[place], spaces)
        from_reference = move(line[reference], line[place], spaces)
        if from_reference is None:
            reference, from_reference = place - 1, previous
        step = Step(
            broken=_break(line[place - 1], line[place], spaces) if previous is None else None,
            previous=previous,
            first=move(line[first], line[place], spaces) if first < place else None,
            alias=target,
        )
        if previous and from_reference and from_reference.distance >= limit and from_reference.is_beyond_noise:
            change = Change.JUMP if previous.distance >= limit else Change.CREEP
            step = Step(None, previous, step.first, target, change, reference, from_reference.distance)
            reference = place
        steps.append(step)
    return steps


def move(one: Point, other: Point, spaces: Mapping[int, Space]) -> Move | None:
    """Return the move from one version to another under the latest recipe that both have; None where there is none."""
    shared = one.keys() & other.keys()
    if not shared:
        return None
    recipe = max(shared)
    before, after, space = one[recipe], other[recipe], spaces[recipe]
    by_noise = float(noise_distance(before.strength, after.strength, space.noise_floor))
    probes = None
    if before.probes is not None and after.probes is not None and len(before.probes) == len(after.probes):
        probes = tuple(_distance(*pair) for pair in zip(before.probes, after.probes, strict=True))
    return Move(
        recipe_id=recipe,
        distance=_distance(before.vector, after.vector),
        strength_ratio=after.strength / before.strength if before.strength else None,
        probe_distances=probes,
        noise=max(by_noise, space.reseed_distance or 0.0),
    )


def _break(one: Point, other: Point, spaces: Mapping[int, Space]) -> Break:
    bases = [{spaces[recipe].base_digest for recipe in point} for point in (one, other)]
    return Break.RECIPE if bases[0] & bases[1] else Break.BASE


def _distance(one: FloatArray, other: FloatArray) -> float:
    before, after = unit_vectors(np.stack([one, other]))
    return float(np.clip(1.0 - before @ after, 0.0, 2.0))
