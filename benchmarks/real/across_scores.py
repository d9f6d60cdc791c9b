"""Scores of a comparison across two bases: nearest neighbours both ways, and the silhouette of domains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.real.across_pools import Read
from benchmarks.real.across_ways import Matrix, Way
from benchmarks.real.pools import Finetune
from benchmarks.real.scores import Answer, _share, same_text
from benchmarks.real.texts import DOMAINS, Role
from deltadex.vectors import cosine_similarity, silhouettes, similarity_sums, unit_vectors

#: Versions that a person would look at.
_SHORTLIST = 5


@dataclass(frozen=True)
class AcrossScore:
    """Scores of a way to find the domain of a finetune among the finetunes of another base.

    Attributes
    ----------
    there, back
        Finetunes of the first base whose nearest one of the second has their domain, and the reverse.
    both
        The two together.
    shortlist
        Finetunes of both bases that have one of their domain among the five nearest of the other base.
    silhouette
        Mean silhouette of domains over the finetunes of both bases.
    domains
        Number of domains, the reciprocal of which is what chance gives.
    """

    there: Answer
    back: Answer
    both: Answer
    shortlist: Answer
    silhouette: float
    domains: int


def score(way: Way, one: Read, other: Read, role: Role) -> AcrossScore:
    """Score a way on the domains of a role; centring sees the bases' finetunes of all domains that were read."""
    first, second = way(one, other)
    places = [_of_role(each.models, role) for each in (one, other)]
    vectors = first[places[0]], second[places[1]]
    models = [[each.models[place] for place in at] for each, at in zip((one, other), places, strict=True)]
    both_ways = (models, vectors), (models[::-1], vectors[::-1])
    there, back = (list(_hits(*sides)) for sides in both_ways)
    shortlisted = [hit for sides in both_ways for hit in _hits(*sides, among=_SHORTLIST)]
    labels = np.unique([each.domain for side in models for each in side], return_inverse=True)[1]
    similarity = cosine_similarity(np.concatenate(vectors))
    widths = silhouettes(similarity_sums(similarity, labels), labels)
    return AcrossScore(
        _share(there),
        _share(back),
        _share([*there, *back]),
        _share(shortlisted),
        float(widths.mean()),
        len({*labels.tolist()}),
    )


def _of_role(models: Sequence[Finetune], role: Role) -> list[int]:
    return [number for number, one in enumerate(models) if DOMAINS[one.domain].role is role]


def _hits(models: Sequence[Sequence[Finetune]], vectors: Sequence[Matrix], *, among: int = 1) -> Iterator[bool]:
    """Yield, for each first model, whether its domain is among the nearest second ones of other parts of the text."""
    similarity = unit_vectors(vectors[0]) @ unit_vectors(vectors[1]).T
    for query, row in zip(models[0], similarity, strict=True):
        possible = [number for number, each in enumerate(models[1]) if not same_text(query, each)]
        nearest = sorted(possible, key=row.__getitem__)[-among:]
        yield query.domain in {models[1][number].domain for number in nearest}
