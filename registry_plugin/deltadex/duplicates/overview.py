"""Groups of redundant versions with their evidence, for the duplicates page and `deltadex duplicates`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltadex.access import HIDDEN, Person
from deltadex.duplicates.all_pairs import PAIR, Pairs
from deltadex.duplicates.group import Group, Redundancy
from deltadex.duplicates.keeper import Policy, Standing
from deltadex.duplicates.levels import redundant_groups
from deltadex.duplicates.pairs import similar_pairs
from deltadex.duplicates.standing_queries import standings
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings import reads as visible_embeddings
from deltadex.embeddings.queries import EmbeddingTable, RecipeRow
from deltadex.findings import queries as findings
from deltadex.findings.calibration import Calibration, Threshold
from deltadex.findings.kinds import Concerns, kinds_about
from deltadex.findings.thresholds import stored_calibration
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import Finding, FindingKind, VersionRow
from deltadex.vectors import cosine_similarity

#: Most versions of a recipe that are all compared on request; it takes a few seconds.
COMPARED_AT_MOST = 5_000


@dataclass(frozen=True)
class RecipeRedundancy:
    """Redundant versions of one recipe, with the thresholds.

    Attributes
    ----------
    too_weak
        Versions that are left out because they are too weak to compare.
    """

    recipe: RecipeRow
    calibration: Calibration
    groups: tuple[Group, ...]
    too_weak: tuple[VersionRow, ...]

    def of_kind(self, kind: Redundancy) -> list[Group]:
        """Return the groups of one level."""
        return [group for group in self.groups if group.kind is kind]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Versions of one recipe and their similar pairs: the input for groups at any threshold.

    Attributes
    ----------
    viewer
        Person for whom `groups` masks hidden models; `table` and `too_weak` are not masked.
    pairs
        Similar pairs of rows of `table`.
    merged
        Pairs of rows of `table`: an adapter and its merge, whose digests differ although their weights are equal.
    """

    viewer: Person
    recipe: RecipeRow
    calibration: Calibration
    table: EmbeddingTable
    pairs: Pairs
    merged: Sequence[tuple[int, int]]
    standings: Mapping[int, Standing]
    policy: Policy
    too_weak: tuple[VersionRow, ...]

    def groups(self, similarity: float | None = None) -> RecipeRedundancy:
        """Return the groups at the recipe's thresholds, or at another near-duplicate similarity."""
        visible = tuple(_visible(self.viewer, group) for group in self.unmasked(similarity))
        return RecipeRedundancy(
            self.recipe, self._calibration(similarity), visible, tuple(self.viewer.view_each(self.too_weak))
        )

    def unmasked(self, similarity: float | None = None) -> list[Group]:
        """Return the groups with the names of all models: for what is stored, never for a viewer."""
        return redundant_groups(
            self.table.rows,
            self.table.vectors,
            pairs=self.pairs,
            calibration=self._calibration(similarity),
            merged=self.merged,
            standings=self.standings,
            policy=self.policy,
        )

    def limit_of(self, kind: Redundancy) -> Threshold:
        """Return the threshold of the similarity on a level."""
        return self.calibration.same_task if kind is Redundancy.SAME_TASK else self.calibration.near_similarity

    def _calibration(self, similarity: float | None) -> Calibration:
        return self.calibration if similarity is None else self.calibration.at(similarity)


def redundancies(
    tx: Transaction, viewer: Person, settings: Settings, *, similarity: float | None = None
) -> list[RecipeRedundancy]:
    """Return the groups of redundant versions of each recipe.

    Parameters
    ----------
    similarity
        Near-duplicate threshold (cosine similarity) of a preview; None for the recipe's own.
    """
    return [one.groups(similarity) for one in candidates(tx, viewer, settings, lowest=similarity)]


def candidates(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    *,
    lowest: float | None = None,
    ids: Sequence[int] | None = None,
) -> list[Candidates]:
    """Return the versions that may be redundant under each recipe.

    At most `COMPARED_AT_MOST` versions are all compared. With more, the pairs are read from the findings, and only the
    versions of each model that are in some are compared. A preview always compares all versions.

    Parameters
    ----------
    lowest
        Lowest near-duplicate similarity that will be previewed; None if there is no preview.
    ids
        Only these versions, which are then all compared; None for all.
    """
    exact = findings.listing(tx, settings.registry, kinds=[FindingKind.EXACT_DUPLICATE])
    merged = [one.finding for one in exact if one.other and one.other.weights_digest != one.version.weights_digest]
    return [
        _of_recipe(tx, viewer, settings, recipe, merged, lowest=lowest, ids=ids)
        for recipe in visible_embeddings.recipes(tx, viewer, settings.registry)
    ]


def _of_recipe(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    recipe: RecipeRow,
    merged: Sequence[Finding],
    *,
    lowest: float | None,
    ids: Sequence[int] | None,
) -> Candidates:
    registry = settings.registry
    calibration = stored_calibration(tx, recipe.id, registry, thresholds=settings.thresholds)
    if lowest is None and ids is None and recipe.embedded > COMPARED_AT_MOST:
        table, pairs = _pairs_of_findings(tx, recipe, registry, near=calibration.near_similarity.value)
    else:
        table = embeddings.table(tx, recipe.id, registry=registry, ids=ids).of(lambda row: row.is_active)
        limits = (calibration.near_similarity.value, calibration.same_task.value, lowest)
        pairs = similar_pairs(table.vectors, min(limit for limit in limits if limit is not None))
    return Candidates(
        viewer=viewer,
        recipe=recipe,
        calibration=calibration,
        table=table,
        pairs=pairs,
        merged=_places(table, merged),
        standings=standings(tx, viewer, settings, table.rows),
        policy=Policy.of(settings),
        too_weak=embeddings.too_weak(tx, recipe.id, registry),
    )


def similarities(tx: Transaction, registry: str, recipe_id: int, ids: Sequence[int]) -> NDArray[np.float64]:
    """Return the `(n, n)` cosine similarities of versions of a recipe; they identify no model and are not masked."""
    table = embeddings.table(tx, recipe_id, registry=registry, ids=ids)
    position = {row.id: place for place, row in enumerate(table.rows)}
    return cosine_similarity(table.vectors[[position[version_id] for version_id in ids]])


def _visible(viewer: Person, group: Group) -> Group:
    versions = tuple(viewer.view_each(group.versions))
    proposal = group.proposal
    if not all(viewer.sees(row.registered.ref.name) for row in group.versions):
        # The reasons contain names, aliases and metrics, maybe of a hidden model.
        proposal = replace(
            proposal,
            keeper=proposal.keeper and viewer.view(proposal.keeper),
            reason=HIDDEN,
            advice="",
            retired=tuple(viewer.view_each(proposal.retired)),
            spared=dict.fromkeys(proposal.spared, HIDDEN),
        )
    owners = tuple(sorted({name for row in versions if (name := row.registered.owner)}))
    return replace(group, versions=versions, proposal=proposal, owners=owners)


def _places(table: EmbeddingTable, found: Sequence[Finding]) -> list[tuple[int, int]]:
    place = {row.id: number for number, row in enumerate(table.rows)}
    pairs = ((place.get(one.version_id), place.get(one.other_id or 0)) for one in found)
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def _pairs_of_findings(
    tx: Transaction, recipe: RecipeRow, registry: str, *, near: float
) -> tuple[EmbeddingTable, Pairs]:
    """Return the versions in findings about pairs, those pairs, and the pairs of versions of one model that are near.

    The latter are no findings, but a version stands for those that it supersedes.
    """
    known = [one.finding for one in findings.listing(tx, registry, kinds=kinds_about(Concerns.GROUP))]
    ids = sorted({each for one in known for each in (one.version_id, one.other_id) if each is not None})
    table = embeddings.table(tx, recipe.id, registry=registry, ids=ids).of(lambda row: row.is_active)
    place = {row.id: number for number, row in enumerate(table.rows)}
    of_findings = [
        (place[one.version_id], place[one.other_id], one.measure)
        for one in known
        if one.measure is not None and one.version_id in place and one.other_id in place
    ]
    return table, np.concatenate([np.array(of_findings, dtype=PAIR), *_within_models(table, near)])


def _within_models(table: EmbeddingTable, near: float) -> Iterator[Pairs]:
    """Yield the near pairs of each model with several versions."""
    places = defaultdict[str, list[int]](list)
    for place, row in enumerate(table.rows):
        places[row.registered.ref.name].append(place)
    for several in (np.array(each) for each in places.values() if len(each) > 1):
        pairs = similar_pairs(table.vectors[several], near)
        pairs["first"], pairs["second"] = several[pairs["first"]], several[pairs["second"]]
        yield pairs
