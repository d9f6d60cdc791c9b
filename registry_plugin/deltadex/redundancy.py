"""What the duplicates page and `deltadex duplicates` both show: groups of redundant versions, with their evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.redundancy import Group, Redundancy, redundant_groups
from deltadex.comparing import calibration_of
from deltadex.domain import VersionRow
from deltadex.settings import ThresholdSettings
from deltadex.store import embeddings
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow


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
        table = embeddings.table(tx, recipe.id, registry=registry)
        groups = redundant_groups(
            table.rows, table.vectors, calibration=calibration, keeper_metric=thresholds.keeper_metric
        )
        weak = embeddings.too_weak(tx, recipe.id, registry)
        yield RecipeRedundancy(recipe, calibration, tuple(groups), weak)
