"""Relations of one version to all others, measured from their sketches. Pure, but for the loading of sketches."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deltadex.checkpoints.sketch import Sketch
from deltadex.lineage.kinship import First, Kinship, Origin, aligned, cosine, kinship
from deltadex.lineage.merges import PLAIN_SUM, MergedFrom, merged_from

#: Returns sketches of versions by id.
Load = Callable[[Collection[int]], Mapping[int, Sketch]]

#: Versions that are compared in full, and versions that may be merges of the one, at most.
_COMPARED_AT_MOST, _MERGES_AT_MOST = 256, 8
#: Log odds of a shared beginning, and standard errors of a correlation, from which a version is compared in full.
_LEAST_ODDS, _STANDARD_ERRORS = 4.0, 3.0
#: Cosine with a version from which it may be a merge of that one.
_LEAST_OF_MERGE = 0.25


class LinkKind(StrEnum):
    """Kind of a measured relation, read from the earlier to the later version."""

    TRAINED_ON = "trained on as"
    MERGED = "merged into"
    SAME = "same update as"
    SHARED = "shared origin with"


@dataclass(frozen=True)
class Link:
    """A measured relation of two versions.

    Attributes
    ----------
    is_directed
        False if the weights do not tell which came first; the order of the two then means nothing.
    p
        p-value of the shared origin, corrected for the number of comparisons; None if the parents of a merge were
        found by their updates.
    shared
        Cosine similarity of the two updates.
    weight
        Relative weight of the parent in a merge; None for all else.
    """

    kind: LinkKind
    earlier: int
    later: int
    is_directed: bool
    p: float | None
    shared: float
    weight: float | None = None


def candidates(version_id: int, coarse: Mapping[int, Sketch]) -> list[int]:
    """Return the versions worth comparing with one in full, the most alike first."""
    own, scores = coarse[version_id], {}
    for number, one in coarse.items():
        if number != version_id and one.layout == own.layout:
            score = max(_odds(own, one) / _LEAST_ODDS, _errors(own, one) / _STANDARD_ERRORS)
            if score >= 1:
                scores[number] = score
    return sorted(scores, key=lambda number: -scores[number])[:_COMPARED_AT_MOST]


def _odds(one: Sketch, other: Sketch) -> float:
    """Return a lower bound of minus the log of the p-value of independent beginnings (Hoeffding)."""
    mine, its = aligned(one, other)
    products = np.einsum("me,me->m", one.down[mine], other.down[its], dtype=np.float64)
    squares = float(products @ products)
    return max(0.0, float(products.sum())) ** 2 / (2 * squares) if squares else 0.0


def _errors(one: Sketch, other: Sketch) -> float:
    return cosine(one.deltas, other.deltas) * math.sqrt(len(one.deltas))


def relations(version_id: int, coarse: Mapping[int, Sketch], load: Load) -> list[Link]:
    """Return the relations of a version: its parent or the parents that it is merged from, and what came of it.

    Of a chain, only the next version on each side; versions that have a parent in common are left out.

    Parameters
    ----------
    coarse
        Coarse sketches of all versions, the version's own among them.
    load
        Returns whole sketches by id.
    """
    if version_id not in coarse:
        return []
    search = _Search(coarse, load)
    kin = search.kin(version_id)
    own_merge = search.merge(version_id)
    parents = [] if own_merge is None else _of_merge(version_id, own_merge, search)
    into = [link for other in search.maybe_merges(version_id) if (link := search.link_to_merge(version_id, other))]
    taken = {link.earlier for link in parents} | {link.later for link in into}
    direct = [] if own_merge is not None else _nearest(kin, search, first=First.OTHER)
    later = _nearest(kin, search, first=First.ONE)
    near = [
        _link(version_id, other, one)
        for other, one in [*direct, *later, *_unordered(kin)]
        if other not in taken and not search.is_beside_merge(version_id, other, one)
    ]  # fmt: skip
    related = {*taken, *(each for link in near for each in (link.earlier, link.later))} - {version_id}
    shared = [
        _link(version_id, other, one)
        for other, one in kin.items()
        if one.origin is Origin.SHARED and other not in related and not search.is_explained(other, related)
    ]
    return [*parents, *into, *near, *(shared if own_merge is None else [])]


class _Search:
    """Sketches of versions, each loaded once."""

    def __init__(self, coarse: Mapping[int, Sketch], load: Load) -> None:
        self._coarse, self._load = coarse, load
        self._loaded: dict[int, Sketch] = {}
        self._candidates: dict[int, list[int]] = {}
        self._kin: dict[int, dict[int, Kinship]] = {}
        self._merges: dict[int, MergedFrom | None] = {}
        self.comparisons = max(1, len(coarse) - 1)

    def sketches(self, ids: Collection[int]) -> dict[int, Sketch]:
        missing = [number for number in ids if number not in self._loaded]
        if missing:
            self._loaded |= self._load(missing)
        return {number: self._loaded[number] for number in ids if number in self._loaded}

    def one(self, number: int) -> Sketch:
        return self.sketches([number])[number]

    def near(self, number: int) -> dict[int, Sketch]:
        if number not in self._candidates:
            self._candidates[number] = candidates(number, self._coarse)
        return self.sketches(self._candidates[number])

    def kin(self, number: int) -> dict[int, Kinship]:
        if number in self._kin:
            return self._kin[number]
        own = self.one(number)
        found = {other: kinship(own, one, comparisons=self.comparisons) for other, one in self.near(number).items()}
        self._kin[number] = {other: one for other, one in found.items() if one is not None}
        return self._kin[number]

    def between(self, number: int, other: int) -> Kinship | None:
        return kinship(self.one(number), self.one(other), comparisons=self.comparisons)

    def merge(self, number: int) -> MergedFrom | None:
        """Return the parents of a version that is a merge; None if one parent, trained on, explains it as well."""
        if number not in self._merges:
            self._merges[number] = self._find_merge(number)
        return self._merges[number]

    def _find_merge(self, number: int) -> MergedFrom | None:
        found = merged_from(self.one(number), self.near(number), comparisons=self.comparisons)
        if found is None or found.explained >= PLAIN_SUM:
            return found
        kin = self.kin(number).values()
        return None if any(one.origin is Origin.TRAINED_ON and one.first is First.OTHER for one in kin) else found

    def maybe_merges(self, number: int) -> list[int]:
        own = self.one(number)
        scores = {
            other: max(cosine(own.deltas, one.deltas), self._of_factors(own, one))
            for other, one in self.near(number).items()
        }
        chosen = sorted(scores, key=lambda other: -scores[other])
        return [other for other in chosen if scores[other] >= _LEAST_OF_MERGE][:_MERGES_AT_MOST]

    @staticmethod
    def _of_factors(one: Sketch, other: Sketch) -> float:
        mine, its = aligned(one, other)
        return cosine(one.up[mine], other.up[its]) if len(mine) else 0.0

    def link_to_merge(self, number: int, other: int) -> Link | None:
        found = self.merge(other)
        return next((link for link in _of_merge(other, found, self) if link.earlier == number), None) if found else None

    def is_beside_merge(self, number: int, other: int, kin: Kinship) -> bool:
        """Return True if a step between two versions is due to a merge that has a parent in common with one.

        A parent is its merge and a step, too.
        """
        if kin.origin is Origin.SAME:
            return False
        earlier, later = (other, number) if kin.first is First.OTHER else (number, other)
        found = self.merge(earlier)
        if self.merge(later) is not None:
            return True
        of_parents = [self.between(later, parent) for parent in (found.weights if found else ())]
        return any(one is not None and one.origin is not Origin.SHARED for one in of_parents)

    def is_explained(self, number: int, related: Collection[int]) -> bool:
        """Return True if a version is of one line with a related one, which says more."""
        kin = [self.between(number, other) for other in related if other != number]
        return any(one is not None and one.origin is not Origin.SHARED for one in kin)


def _of_merge(version_id: int, found: MergedFrom, search: _Search) -> list[Link]:
    own = search.one(version_id)
    return [
        Link(LinkKind.MERGED, parent, version_id, True, found.p, cosine(own.deltas, search.one(parent).deltas), weight)
        for parent, weight in found.weights.items()
    ]


def _nearest(kin: Mapping[int, Kinship], search: _Search, *, first: First) -> list[tuple[int, Kinship]]:
    """Return the versions trained on before or after one, without those that another of them is between."""
    found = {other: one for other, one in kin.items() if one.origin is Origin.TRAINED_ON and one.first is first}
    ordered = sorted(found, key=lambda other: -found[other].shared)
    kept: list[int] = []
    for other in ordered:
        # Read from the nearer one to this: the same order again puts the nearer one between.
        between = [search.between(nearer, other) for nearer in kept]
        if not any(one is not None and one.origin is Origin.TRAINED_ON and one.first is first for one in between):
            kept.append(other)
    return [(other, found[other]) for other in (kept[:1] if first is First.OTHER else kept)]


def _unordered(kin: Mapping[int, Kinship]) -> list[tuple[int, Kinship]]:
    return [
        (other, one)
        for other, one in kin.items()
        if one.origin is Origin.SAME or (one.origin is Origin.TRAINED_ON and one.first is First.UNKNOWN)
    ]


def _link(version_id: int, other: int, one: Kinship) -> Link:
    kind = {Origin.TRAINED_ON: LinkKind.TRAINED_ON, Origin.SAME: LinkKind.SAME, Origin.SHARED: LinkKind.SHARED}
    earlier, later = (other, version_id) if one.first is First.OTHER else (version_id, other)
    return Link(kind[one.origin], earlier, later, one.first is not First.UNKNOWN, one.p, one.shared)
