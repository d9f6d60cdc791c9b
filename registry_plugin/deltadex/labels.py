"""Declared domains against what models do: which labels the nearest versions carry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from deltadex.analysis.domains import DOMAIN_TAG
from deltadex.comparing import NEAREST
from deltadex.domain import Finding, VersionRow
from deltadex.governance.rules import judge_label
from deltadex.settings import ThresholdSettings
from deltadex.store import search
from deltadex.store.conditions import Conditions
from deltadex.store.database import Transaction
from deltadex.store.questions import versions_of
from deltadex.store.search import Neighbor

#: Versions that are judged again after one has arrived near them: each costs a search.
_JUDGED_AGAIN = 5


def contradicted_labels(
    tx: Transaction, row: VersionRow, near: Sequence[Neighbor], *, recipe_id: int, thresholds: ThresholdSettings
) -> Mapping[int, Sequence[Finding]]:
    """Return the findings about the labels of a version that was just stored and of those closest to it, by id.

    The answer about a version may change whenever another one arrives near it, so those are judged again.

    Parameters
    ----------
    near
        What `deltadex.comparing.nearest` said.
    """
    again = [one.version for one in near[:_JUDGED_AGAIN]]
    around = {row.id: near} | _around(tx, [each for each in again if _declared(each)], recipe_id=recipe_id)
    return {
        each.id: _judge(tx, each, around[each.id], thresholds=thresholds) if _declared(each) else []
        for each in (row, *again)
    }


def _around(tx: Transaction, rows: Sequence[VersionRow], *, recipe_id: int) -> dict[int, Sequence[Neighbor]]:
    if not rows:
        return {}
    ids, registry = [row.id for row in rows], rows[0].registered.ref.registry
    # Each is its own closest neighbour.
    found = search.answer(tx, versions_of(tx, ids, recipe_id=recipe_id, registry=registry), k=NEAREST + 1)
    return {own: [one for one in each.neighbors if one.version.id != own] for own, each in zip(ids, found, strict=True)}


def _judge(
    tx: Transaction, row: VersionRow, near: Sequence[Neighbor], *, thresholds: ThresholdSettings
) -> list[Finding]:
    declared, fewest = _declared(row) or "", thresholds.label_versions
    similarities = _by_label(row, near, declared)
    others = [len(found) for label, found in similarities.items() if label != declared]
    if len(similarities.get(declared, ())) < fewest <= max(others, default=0):
        alike = search.neighbors(tx, row.id, k=NEAREST, conditions=Conditions(tags={DOMAIN_TAG: declared})).neighbors
        similarities = _by_label(row, [*alike, *(one for one in near if _declared(one.version) != declared)], declared)
    return judge_label(row.id, declared, similarities, thresholds=thresholds)


def _by_label(row: VersionRow, near: Iterable[Neighbor], declared: str) -> dict[str, list[float]]:
    """Return, by label, how similar the versions that declare it are; copies of the same weights count once."""
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
