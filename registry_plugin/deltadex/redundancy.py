"""What the duplicates page and `deltadex duplicates` both show: groups of redundant versions, with their evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.near_duplicates import PAIR, Pairs
from deltadex.analysis.redundancy import Group, Redundancy, redundant_groups
from deltadex.comparing import calibration_of
from deltadex.domain import FindingKind, VersionRow
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


def redundancies(
    tx: Transaction, registry: str, *, thresholds: ThresholdSettings, similarity: float | None = None
) -> list[RecipeRedundancy]:
    """Return the groups of redundant versions of each recipe.

    All versions are compared where there are at most `COMPARED_AT_MOST`; else the findings tell the pairs, and versions
    of one model that supersede each other, which are no findings, are not listed. A preview always compares all.

    Parameters
    ----------
    similarity
        Preview groups at another similarity of near duplicates.
    """
    return list(_of_each_recipe(tx, registry, thresholds, similarity))


def _of_each_recipe(
    tx: Transaction, registry: str, thresholds: ThresholdSettings, similarity: float | None
) -> Iterator[RecipeRedundancy]:
    for recipe in embeddings.recipes(tx, registry):
        calibration = calibration_of(tx, recipe.id, registry, thresholds=thresholds)
        if similarity is not None:
            calibration = calibration.at(similarity)
        if similarity is None and recipe.embedded > COMPARED_AT_MOST:
            table, pairs = _found(tx, recipe, registry)
        else:
            table, pairs = embeddings.table(tx, recipe.id, registry=registry), None
        groups = redundant_groups(
            table.rows, table.vectors, calibration=calibration, pairs=pairs, keeper_metric=thresholds.keeper_metric
        )
        weak = embeddings.too_weak(tx, recipe.id, registry)
        yield RecipeRedundancy(recipe, calibration, tuple(groups), weak)


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
