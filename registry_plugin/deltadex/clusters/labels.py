"""Check of declared domains against those of the nearest versions: read in a transaction, judged without one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from deltadex.search import neighbors as search
from deltadex.search.filters import Conditions
from deltadex.search.nearest import NEAREST
from deltadex.search.neighbors import Neighbor
from deltadex.search.query_vector import versions_of
from deltadex.setting_groups import ThresholdSettings
from deltadex.store.database import Transaction
from deltadex.types import DOMAIN_TAG, Finding, FindingKind, FloatArray, VersionRow
from deltadex.vectors import unit_vectors

#: Number of neighbours of an arrival that are judged again; each costs a search. All are judged with each clustering.
_JUDGED_AGAIN = 5
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Labelled:
    """A version and its neighbours' domain labels.

    Attributes
    ----------
    declared
        Its own label; None if it declares none.
    similarities
        Cosine similarities of the nearest other versions, by their label.
    """

    version_id: int
    declared: str | None
    similarities: Mapping[str, Sequence[float]]


def read_labels(
    tx: Transaction, row: VersionRow, near: Sequence[Neighbor], *, recipe_id: int, thresholds: ThresholdSettings
) -> list[Labelled]:
    """Read the labels around a version that was just stored, and around its nearest neighbours.

    An arrival may change the result for its neighbours, so these are judged again.

    Parameters
    ----------
    near
        Result of `deltadex.search.nearest.nearest`.
    """
    again = [one.version for one in near[:_JUDGED_AGAIN]]
    around = {row.id: near} | _around(tx, [each for each in again if _declared(each)], recipe_id=recipe_id)
    return [_labelled(tx, each, around.get(each.id, ()), thresholds=thresholds) for each in (row, *again)]


def judge_labels(labelled: Iterable[Labelled], *, thresholds: ThresholdSettings) -> dict[int, list[Finding]]:
    """Return the findings about labels, by version id."""
    return {
        one.version_id: judge_label(one.version_id, one.declared, one.similarities, thresholds=thresholds)
        if one.declared
        else []
        for one in labelled
    }


def judge_every_label(
    rows: Sequence[VersionRow], vectors: FloatArray, *, thresholds: ThresholdSettings
) -> dict[int, list[Finding]]:
    """Return the findings about the labels of all versions of a recipe, by version id.

    Parameters
    ----------
    vectors
        `(n, d)` vectors of the versions.
    """
    labels = [_declared(row) for row in rows]
    digests = np.unique([row.weights_digest or "" for row in rows], return_inverse=True)[1]
    units, judged = unit_vectors(vectors), np.array([number for number, label in enumerate(labels) if label], dtype=int)
    witnesses: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for number in judged.tolist():
        witnesses[str(labels[number])].setdefault(int(digests[number]), number)
    near: dict[int, dict[str, Sequence[float]]] = {number: {} for number in judged.tolist()}
    fewest = thresholds.label_versions
    for label, by_digest in witnesses.items():
        chosen = np.array(list(by_digest.values()))
        for start in range(0, len(judged) if len(chosen) >= fewest else 0, _ROWS_AT_ONCE):
            block = judged[start : start + _ROWS_AT_ONCE]
            similarity = units[block] @ units[chosen].T
            similarity[np.equal.outer(digests[block], digests[chosen])] = -np.inf
            closest = np.partition(similarity, -fewest, axis=1)[:, -fewest:]
            for number, values in zip(block.tolist(), closest.tolist(), strict=True):
                near[number][label] = [value for value in values if value > -np.inf]
    return {
        row.id: judge_label(row.id, label, near[number], thresholds=thresholds) if label else []
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
    }


def _around(tx: Transaction, rows: Sequence[VersionRow], *, recipe_id: int) -> dict[int, Sequence[Neighbor]]:
    if not rows:
        return {}
    ids, registry = [row.id for row in rows], rows[0].registered.ref.registry
    # One more, since each version is its own closest neighbour.
    found = search.answer(tx, versions_of(tx, ids, recipe_id=recipe_id, registry=registry), k=NEAREST + 1)
    return {own: [one for one in each.neighbors if one.version.id != own] for own, each in zip(ids, found, strict=True)}


def _labelled(tx: Transaction, row: VersionRow, near: Sequence[Neighbor], *, thresholds: ThresholdSettings) -> Labelled:
    declared, fewest = _declared(row), thresholds.label_versions
    if not declared:
        return Labelled(row.id, None, {})
    similarities = _by_label(row, near, declared)
    others = [len(found) for label, found in similarities.items() if label != declared]
    if len(similarities.get(declared, ())) < fewest <= max(others, default=0):
        alike = search.neighbors(tx, row.id, k=NEAREST, conditions=Conditions(tags={DOMAIN_TAG: declared})).neighbors
        similarities = _by_label(row, [*alike, *(one for one in near if _declared(one.version) != declared)], declared)
    return Labelled(row.id, declared, similarities)


def _by_label(row: VersionRow, near: Iterable[Neighbor], declared: str) -> dict[str, list[float]]:
    """Return the similarities of neighbours by their label; copies of the same weights count once."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    seen = {row.weights_digest}
    for one in sorted(near, key=lambda one: _declared(one.version) != declared):
        label = _declared(one.version)
        if label and one.version.weights_digest not in seen:
            seen.add(one.version.weights_digest)
            found[label].append(one.similarity)
    return found


def _declared(row: VersionRow) -> str | None:
    return row.registered.tags.get(DOMAIN_TAG)


def judge_label(
    version_id: int, declared: str, similarities: Mapping[str, Sequence[float]], *, thresholds: ThresholdSettings
) -> list[Finding]:
    """Return a finding if another label is closer to a version than its declared one, by at least `label_margin`.

    The closeness of a label is the median similarity of its nearest `label_versions` versions; labels with fewer
    versions are ignored. Two names for one domain are about equally close, so they give no finding.

    Parameters
    ----------
    similarities
        Cosine similarities of the nearest other versions, by their label.
    """
    fewest, margin = thresholds.label_versions, thresholds.label_margin
    typical = {
        label: median(sorted(near, reverse=True)[:fewest])
        for label, near in similarities.items()
        if len(near) >= fewest
    }
    own = typical.pop(declared, None)
    if own is None or not typical:
        return []
    moves_like = max(sorted(typical), key=typical.__getitem__)
    if typical[moves_like] - own < margin:
        return []
    return [
        Finding(
            FindingKind.LABEL_CONTRADICTED,
            version_id,
            measure=typical[moves_like] - own,
            threshold=margin,
            evidence={
                "declared": declared,
                "moves_like": moves_like,
                "similarity_to_declared": own,
                "similarity_to_moves_like": typical[moves_like],
                "versions_of_each": fewest,
            },
        )
    ]
