"""Declared domains against what models do: which labels the nearest versions carry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from deltadex.analysis.domains import DOMAIN_TAG
from deltadex.domain import Finding, VersionRow
from deltadex.governance.rules import judge_label
from deltadex.settings import ThresholdSettings
from deltadex.store import search
from deltadex.store.conditions import Conditions
from deltadex.store.database import Transaction

#: Versions around one that are looked at for the label that it moves like.
_NEAREST = 20
#: Versions that are judged again after one has arrived near them: each costs two searches.
_JUDGED_AGAIN = 5


def contradicted_labels(
    tx: Transaction, row: VersionRow, *, thresholds: ThresholdSettings
) -> Mapping[int, Sequence[Finding]]:
    """Return the findings about the labels of a version that was just stored and of those closest to it, by id.

    The answer about a version may change whenever another one arrives near it, so those are judged again.
    """
    near = [one.version for one in search.neighbors(tx, row.id, k=_JUDGED_AGAIN).neighbors]
    return {
        each.id: judge_label(each.id, declared, _similarities(tx, each, declared), thresholds=thresholds)
        if (declared := each.registered.tags.get(DOMAIN_TAG))
        else []
        for each in (row, *near)
    }


def _similarities(tx: Transaction, row: VersionRow, declared: str) -> dict[str, list[float]]:
    """Return, by label, how similar the nearest versions that declare it are; copies of the same weights count once."""
    alike = search.neighbors(tx, row.id, k=_NEAREST, conditions=Conditions(tags={DOMAIN_TAG: declared})).neighbors
    near = search.neighbors(tx, row.id, k=_NEAREST).neighbors
    others = [one for one in near if one.version.registered.tags.get(DOMAIN_TAG) != declared]
    found: defaultdict[str, list[float]] = defaultdict(list)
    seen = {row.weights_digest}
    for one in (*alike, *others):
        label = one.version.registered.tags.get(DOMAIN_TAG)
        if label and one.version.weights_digest not in seen:
            seen.add(one.version.weights_digest)
            found[label].append(one.similarity)
    return found
