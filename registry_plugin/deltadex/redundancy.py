"""What the duplicates page and `deltadex duplicates` both show: groups of redundant versions, with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.duplicates import connected_groups, similar_pairs
from deltadex.analysis.near_duplicates import PAIR, Pairs
from deltadex.analysis.redundancy import Group, Redundancy, freed_bytes, propose_keeper, redundant_groups
from deltadex.comparing import calibration_on_record
from deltadex.domain import Finding, FindingKind, VersionRow
from deltadex.settings import ThresholdSettings
from deltadex.store import embeddings, findings
from deltadex.store.database import Transaction
from deltadex.store.embeddings import EmbeddingTable, RecipeRow

#: Versions of a recipe that are all compared with each other when somebody looks: a few seconds.
COMPARED_AT_MOST = 5_000


@dataclass(frozen=True)
class RecipeRedundancy:
    """The redundant versions of one recipe, and what decided.

    Attributes
    ----------
    too_weak
        Versions that take no part because comparing them would be guessing.
    """

    recipe: RecipeRow
    calibration: Calibration
    groups: tuple[Group, ...]
    too_weak: tuple[VersionRow, ...]

    def of_kind(self, kind: Redundancy) -> list[Group]:
        """Return the groups of one kind."""
        return [group for group in self.groups if group.kind is kind]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The versions of one recipe, and which of them are similar: what groups are made of at any threshold.

    Attributes
    ----------
    pairs
        Of rows of `table`.
    merged
        Rows of an adapter and of its merge, which have the same weights by other digests.
    """

    recipe: RecipeRow
    calibration: Calibration
    table: EmbeddingTable
    pairs: Pairs
    merged: Sequence[tuple[int, int]]
    too_weak: tuple[VersionRow, ...]

    def groups(self, thresholds: ThresholdSettings, *, similarity: float | None = None) -> RecipeRedundancy:
        """Return the groups by the recipe's calibration, or at another similarity of near duplicates."""
        calibration = self.calibration if similarity is None else self.calibration.at(similarity)
        groups = redundant_groups(
            self.table.rows,
            self.table.vectors,
            pairs=self.pairs,
            calibration=calibration,
            merged=self.merged,
            keeper_metric=thresholds.keeper_metric,
        )
        return RecipeRedundancy(self.recipe, calibration, tuple(groups), self.too_weak)


def redundancies(
    tx: Transaction, registry: str, *, thresholds: ThresholdSettings, similarity: float | None = None
) -> list[RecipeRedundancy]:
    """Return the groups of redundant versions of each recipe.

    Parameters
    ----------
    similarity
        Preview groups at another similarity of near duplicates.
    """
    found = candidates(tx, registry, thresholds=thresholds, lowest=similarity)
    return [one.groups(thresholds, similarity=similarity) for one in found]


def candidates(
    tx: Transaction, registry: str, *, thresholds: ThresholdSettings, lowest: float | None = None
) -> list[Candidates]:
    """Return what may be redundant under each recipe.

    All versions are compared where there are at most `COMPARED_AT_MOST`; else the findings tell the pairs, and versions
    of one model that supersede each other, which are no findings, are not listed. A preview always compares all.

    Parameters
    ----------
    lowest
        The lowest similarity of near duplicates that groups will be asked for; None: no preview.
    """
    exact = findings.listing(tx, registry, kinds=[FindingKind.EXACT_DUPLICATE])
    merged = [one.finding for one in exact if one.other and one.other.weights_digest != one.version.weights_digest]
    return [
        _of_recipe(tx, recipe, registry, merged, thresholds=thresholds, lowest=lowest)
        for recipe in embeddings.recipes(tx, registry)
    ]


def _of_recipe(
    tx: Transaction,
    recipe: RecipeRow,
    registry: str,
    merged: Sequence[Finding],
    *,
    thresholds: ThresholdSettings,
    lowest: float | None,
) -> Candidates:
    calibration = calibration_on_record(tx, recipe.id, registry, thresholds=thresholds)
    if lowest is None and recipe.embedded > COMPARED_AT_MOST:
        table, pairs = _found(tx, recipe, registry)
    else:
        table = embeddings.table(tx, recipe.id, registry=registry)
        limits = (calibration.near_similarity.value, calibration.same_task.value, lowest)
        pairs = similar_pairs(table.vectors, min(limit for limit in limits if limit is not None))
    weak = embeddings.too_weak(tx, recipe.id, registry)
    return Candidates(recipe, calibration, table, pairs, _places(table, merged), weak)


def freed_by_findings(tx: Transaction, registry: str, *, keeper_metric: str | None = None) -> int:
    """Return how many bytes retiring exact and near duplicates frees, by their findings: nothing is compared.

    Versions of one model that supersede each other are no findings, and not counted.
    """
    known = findings.listing(tx, registry, kinds=(FindingKind.EXACT_DUPLICATE, FindingKind.NEAR_DUPLICATE))
    pairs = [(one.version, one.other) for one in known if one.other is not None]
    rows = {row.id: row for pair in pairs for row in pair}
    freed = 0
    for ids in connected_groups((one.id, other.id) for one, other in pairs):
        group = [rows[each] for each in ids]
        kept = propose_keeper(group, keeper_metric).version
        freed += freed_bytes([row for row in group if row.id != kept.id], [kept]) or 0
    return freed


def _places(table: EmbeddingTable, found: Sequence[Finding]) -> list[tuple[int, int]]:
    place = {row.id: number for number, row in enumerate(table.rows)}
    pairs = ((place.get(one.version_id), place.get(one.other_id or 0)) for one in found)
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def _found(tx: Transaction, recipe: RecipeRow, registry: str) -> tuple[EmbeddingTable, Pairs]:
    """Return the versions that findings pair, and those pairs."""
    kinds = (FindingKind.EXACT_DUPLICATE, FindingKind.NEAR_DUPLICATE, FindingKind.SAME_TASK)
    known = [one.finding for one in findings.listing(tx, registry, kinds=kinds)]
    ids = sorted({each for one in known for each in (one.version_id, one.other_id) if each is not None})
    table = embeddings.table(tx, recipe.id, registry=registry, ids=ids)
    place = {row.id: number for number, row in enumerate(table.rows)}
    pairs = [
        (place[one.version_id], place[one.other_id], one.measure)
        for one in known
        if one.measure is not None and one.version_id in place and one.other_id in place
    ]
    return table, np.array(pairs, dtype=PAIR)
