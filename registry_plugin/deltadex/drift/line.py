"""Steps between consecutive versions of a registered model: distance, strength and noise.

A version is a *change point* if its distance to the reference exceeds both the recipe's limit and the noise. The
reference is the last change point, or the first version. So a jump is flagged once, and a creep in small steps is
flagged once it exceeds the limit; a model that stays near its reference is never flagged. A change point that is near
an earlier reference is a return to it, which resolves the changes in between.

Versions without a common recipe cannot be compared: another base or another recipe is a break in the line, and a new
line begins after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from deltadex.types import FloatArray
from deltadex.vectors import noise_distance, unit_vectors


class Break(StrEnum):
    """Reason why two consecutive versions cannot be compared."""

    BASE = "another base"
    RECIPE = "another recipe"


class Change(StrEnum):
    """Kind of a change point: one large step, several small ones, or back to where the model was before."""

    JUMP = "jump"
    CREEP = "creep"
    RETURN = "return"


@dataclass(frozen=True)
class Space:
    """Properties of a recipe that separate moves from noise.

    Attributes
    ----------
    noise_floor
        See `deltadex.types.Embedding`.
    limit
        Cosine distance at which a move is a drift.
    reseed_distance, step_distance
        See `deltadex.findings.calibration.Calibration`. A move shorter than the first may be due to the seed alone.
    """

    base_digest: str
    noise_floor: float | None = None
    limit: float = 0.5
    reseed_distance: float | None = None
    step_distance: float | None = None

    def in_words(self, distance: float) -> str:
        """Return a distance as a multiple of an ordinary one; empty if none is known."""
        if self.reseed_distance:
            return f"{distance / self.reseed_distance:.0f} times what another seed moves a model"
        if self.step_distance:
            return f"{distance / self.step_distance:.0f} times what a new version usually moves a model"
        return ""


@dataclass(frozen=True, eq=False)
class PlacedVersion:
    """Embedding of a version under one recipe.

    Attributes
    ----------
    vector
        `(d,)` float32, not normalised.
    strength
        See `deltadex.types.Embedding`.
    probes
        `(n_probes, d)` deltas of the probes, in any unit; None if they were not stored.
    """

    vector: FloatArray
    strength: float
    probes: FloatArray | None = None


@dataclass(frozen=True)
class Move:
    """Move from one version to another.

    Attributes
    ----------
    recipe_id
        Recipe under which both were compared.
    distance
        Cosine distance, in [0, 2].
    strength_ratio
        Strength after the move over the strength before; None if that was zero.
    probe_distances
        Cosine distance of each probe's deltas; None if they were not stored.
    noise
        Cosine distance that noise or another seed alone can cause.
    limit
        Cosine distance at which it is a drift.
    """

    recipe_id: int
    distance: float
    strength_ratio: float | None
    probe_distances: tuple[float, ...] | None
    noise: float
    limit: float

    @property
    def is_beyond_noise(self) -> bool:
        """True if the distance exceeds the noise."""
        return self.distance > self.noise

    @property
    def is_drift(self) -> bool:
        """True if the distance reaches the limit and exceeds the noise."""
        return self.distance >= self.limit and self.is_beyond_noise

    def changes_strength(self, limit: float) -> bool:
        """Return True if the strength grew or shrank at least by the factor `limit`."""
        ratio = self.strength_ratio
        return ratio is not None and (ratio >= limit or ratio <= 1 / limit)


@dataclass(frozen=True)
class Step:
    """Step to a version of the line, after the first.

    Attributes
    ----------
    broken
        Reason why the version cannot be compared with the one before; None if it can.
    previous, first, alias
        Moves from the version before, from the first one since the last break, and from the alias's version; None if
        there is no such version with a common recipe.
    change
        Kind of the change point; None if the version is none.
    reference
        Index of the reference; None if the version is no change point.
    measure
        Cosine distance to the reference; None if the version is no change point.
    in_words
        The distance that makes it a change point, as a multiple of an ordinary one; empty if that is not known.
    back_to
        Index of the earlier reference that a return is closest to; None for all else.
    """

    broken: Break | None
    previous: Move | None
    first: Move | None
    alias: Move | None
    change: Change | None = None
    reference: int | None = None
    measure: float | None = None
    in_words: str = ""
    back_to: int | None = None

    @property
    def is_drift(self) -> bool:
        """True if the model left where it was."""
        return self.change in (Change.JUMP, Change.CREEP)


#: The embeddings of a version by recipe id.
Point = Mapping[int, PlacedVersion]


def follow(line: Sequence[Point], spaces: Mapping[int, Space], *, alias: int | None = None) -> list[Step]:
    """Return the `n - 1` steps of a registered model.

    Parameters
    ----------
    line
        Its versions, oldest first, without those too weak to place.
    spaces
        Recipes by id.
    alias
        Index of the alias's version.
    """
    first = 0
    #: References since the last break, the current one last, without those that a return took back.
    references = [0]
    steps = []
    for place in range(1, len(line)):
        previous = move(line[place - 1], line[place], spaces)
        if previous is None:
            first, references = place, [place]
        from_alias = None if alias is None else move(line[alias], line[place], spaces)
        from_reference = move(line[references[-1]], line[place], spaces)
        if from_reference is None:
            references, from_reference = [place - 1], previous
        step = Step(
            broken=_break(line[place - 1], line[place], spaces) if previous is None else None,
            previous=previous,
            first=move(line[first], line[place], spaces) if first < place else None,
            alias=from_alias,
        )
        if previous and from_reference and from_reference.is_drift:
            change = Change.JUMP if previous.distance >= previous.limit else Change.CREEP
            measure = from_reference.distance
            in_words = spaces[previous.recipe_id].in_words(previous.distance if change is Change.JUMP else measure)
            back_to = _closest({each: line[each] for each in references[:-1]}, line[place], spaces)
            step = replace(
                step,
                change=change if back_to is None else Change.RETURN,
                reference=references[-1],
                measure=measure,
                in_words=in_words,
                back_to=back_to,
            )
            if back_to is None:
                references.append(place)
            else:
                references = references[: references.index(back_to) + 1]
        steps.append(step)
    return steps


def unresolved(steps: Sequence[Step], in_use: Sequence[bool]) -> list[int]:
    """Return the indices of the steps that are drifts, without those that a later version has taken back.

    A drift stands as long as an alias points at one of the versions that it led to, before the return.

    Parameters
    ----------
    in_use
        `(n + 1,)`: whether an alias points at each version.
    """
    returns = [(place, step.back_to) for place, step in enumerate(steps) if step.back_to is not None]
    return [
        place
        for place, step in enumerate(steps)
        if step.is_drift
        and not any(back_to <= place < back and not any(in_use[place + 1 : back + 1]) for back, back_to in returns)
    ]


def _closest(earlier: Mapping[int, Point], point: Point, spaces: Mapping[int, Space]) -> int | None:
    """Return the key of the closest point that is nearer than the limit; None if none is."""
    moves = {place: found for place, one in earlier.items() if (found := move(one, point, spaces))}
    near = {place: found.distance for place, found in moves.items() if found.distance < found.limit}
    return min(near, key=near.__getitem__, default=None)


def move(one: Point, other: Point, spaces: Mapping[int, Space]) -> Move | None:
    """Return the move from one version to another under their latest common recipe; None if they have none."""
    shared = one.keys() & other.keys()
    if not shared:
        return None
    recipe = max(shared)
    before, after, space = one[recipe], other[recipe], spaces[recipe]
    measurement_noise = float(noise_distance(before.strength, after.strength, space.noise_floor))
    probes = None
    if before.probes is not None and after.probes is not None and len(before.probes) == len(after.probes):
        probes = tuple(_distance(*pair) for pair in zip(before.probes, after.probes, strict=True))
    return Move(
        recipe_id=recipe,
        distance=_distance(before.vector, after.vector),
        strength_ratio=after.strength / before.strength if before.strength else None,
        probe_distances=probes,
        noise=max(measurement_noise, space.reseed_distance or 0.0),
        limit=space.limit,
    )


def _break(one: Point, other: Point, spaces: Mapping[int, Space]) -> Break:
    bases = [{spaces[recipe].base_digest for recipe in point} for point in (one, other)]
    return Break.RECIPE if bases[0] & bases[1] else Break.BASE


def _distance(one: FloatArray, other: FloatArray) -> float:
    before, after = unit_vectors(np.stack([one, other]))
    return float(np.clip(1.0 - before @ after, 0.0, 2.0))
