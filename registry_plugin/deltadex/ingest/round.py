"""Judgement of a whole recipe at once, independent of the order of arrival: pairs, drift and clusters."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from deltadex.clusters.labels import judge_every_label
from deltadex.clusters.runs import ClusteringResult, is_due, recluster
from deltadex.drift.model_drift import judge_model, read_model
from deltadex.drift.queries import models_with_steps
from deltadex.duplicates import queries as duplicates
from deltadex.duplicates import rules
from deltadex.duplicates.all_pairs import Members, Pairs, PairSearch, ignore_progress
from deltadex.duplicates.queries import Replaced
from deltadex.duplicates.regroup import regroup, regroup_around
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.errors import StoreError
from deltadex.findings import queries as findings
from deltadex.findings.calibration import Calibration
from deltadex.findings.thresholds import recalibrate
from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind, ModelVersionRef
from deltadex.versions import transitions
from deltadex.versions.queries import by_ids

#: Models whose drift is judged while the recipe is locked.
_MODELS_AT_ONCE = 100

log = logging.getLogger(__name__)


def recompute_where_due(database: Database, settings: Settings) -> list[ClusteringResult]:
    """Recompute each recipe that is due, except those another process is recomputing."""
    recomputed = []
    with database.transaction() as tx:
        due = [one for one in embeddings.recipes(tx, settings.registry) if is_due(tx, settings, one)]
    for recipe in due:
        try:
            recomputed.append(recompute_recipe(database, settings, recipe))
        except StoreError as error:
            if not error.retryable:
                raise
            log.info("round left for later recipe=%s error=%r", recipe.digest[:12], error.message)
    return recomputed


def recompute_recipe(database: Database, settings: Settings, recipe: RecipeRow) -> ClusteringResult:
    """Recompute the clusters, pairs, drifts and contradicted labels of a recipe, and update its reviews.

    Raises
    ------
    StoreError
        Another process is recomputing this recipe, or Postgres is unavailable.
    """

    # The cluster run determines when a recipe is due again. It is stored last, so that arrivals in between count as
    # changes and a killed round is due again.
    def judge() -> None:
        judge_pairs(database, settings, recipe)
        judge_drifts(database, settings, recipe)
        judge_labels(database, settings, recipe)
        database.run(lambda tx: reviews.follow(tx, settings))

    return recluster(database, settings, recipe, before_storing=judge)


def judge_pairs(database: Database, settings: Settings, recipe: RecipeRow) -> None:
    """Compare all versions of a recipe, and replace the near duplicates and repeated tasks that were found before.

    A near duplicate was judged on arrival, by the threshold of that day.
    Needs temporary disk space of twice the vectors' size in the store.
    """
    registry = settings.registry
    with tempfile.TemporaryDirectory(prefix="deltadex-") as temporary:
        folder = Path(temporary)
        with database.transaction() as tx:
            path = folder / "vectors.npy"
            members = duplicates.export(tx, recipe.id, registry, path=path, on_progress=ignore_progress)
        with database.transaction() as tx:
            # Groups are made by the stored thresholds: they must be those of the pairs.
            calibration = recalibrate(tx, recipe.id, registry, thresholds=settings.thresholds)
        vectors = np.load(path, mmap_mode="r")
        limits = calibration.near_similarity.value, calibration.same_task.value
        search = PairSearch(vectors, members["model"], folder, *limits)
        search.run()

        def store(tx: Transaction) -> None:
            replace_findings(tx, recipe.id, registry, search, members, calibration=calibration)
            regroup(tx, settings)
            reviews.follow(tx, settings)

        database.run(store)


def judge_relabelled(database: Database, settings: Settings) -> int:
    """Judge labels and drifts again where a label, a stage or an alias has changed; return how many did.

    A label is a witness for other versions too, so all of a recipe are judged.
    """
    with database.transaction() as tx:
        changed = transitions.relabelled(tx, settings.registry)
        rows = by_ids(tx, [version_id for version_id, _ in changed])
        recipes = embeddings.recipes(tx, settings.registry) if changed else []
    for recipe in recipes:
        judge_labels(database, settings, recipe)
        judge_drifts(database, settings, recipe, names={row.registered.ref.name for row in rows.values()})

    def end(tx: Transaction) -> None:
        transitions.mark_judged(tx, changed)
        # A version that is archived no more joins its groups again.
        regroup_around(tx, settings, rows)
        reviews.follow(tx, settings)

    if changed:
        database.run(end)
    return len(changed)


def judge_drifts(
    database: Database, settings: Settings, recipe: RecipeRow, *, names: Collection[str] | None = None
) -> None:
    """Judge the drift of all models of a recipe again, or of some: on arrival it was judged by that day's threshold."""
    models = [
        ref
        for ref in database.run(lambda tx: models_with_steps(tx, recipe.id, settings.registry))
        if names is None or ref.name in names
    ]

    def judge(tx: Transaction, refs: Sequence[ModelVersionRef]) -> None:
        embeddings.lock_recipe(tx, recipe.digest)
        for ref in refs:
            found = judge_model(read_model(tx, ref, thresholds=settings.thresholds))
            findings.replace_drift(tx, found.get(recipe.id, []), ref=ref, recipe_id=recipe.id)

    for start in range(0, len(models), _MODELS_AT_ONCE):
        database.run(partial(judge, refs=models[start : start + _MODELS_AT_ONCE]))


def judge_labels(database: Database, settings: Settings, recipe: RecipeRow) -> None:
    """Judge the declared domains of all versions of a recipe: on arrival only a few around the arrival were."""
    with database.transaction() as tx:
        table = embeddings.table(tx, recipe.id, registry=settings.registry)
    found = judge_every_label(table.rows, table.vectors, thresholds=settings.thresholds)

    def store(tx: Transaction) -> None:
        embeddings.lock_recipe(tx, recipe.digest)
        findings.replace_of_versions(
            tx,
            [one for of_version in found.values() for one in of_version],
            version_ids=found.keys(),
            recipe_id=recipe.id,
            kinds=[FindingKind.LABEL_CONTRADICTED],
        )

    database.run(store)


def replace_findings(
    tx: Transaction,
    recipe_id: int,
    registry: str,
    search: PairSearch,
    members: Members,
    *,
    calibration: Calibration,
) -> Replaced:
    """Replace the near duplicates and repeated tasks of a recipe with the results of a finished search."""
    duplicates.lock_and_stage_members(tx, recipe_id, registry, members)
    near = (rules.near_duplicates(pairs, members, calibration=calibration) for pairs in search.pairs())
    replaced = duplicates.replace_near(tx, recipe_id, _pairs_by_id(near, members), calibration=calibration)
    tasks = (rules.repeated_tasks(closest, members, calibration=calibration) for closest in search.closest())
    duplicates.replace_same_task(tx, recipe_id, registry, _pairs_by_id(tasks, members), calibration=calibration)
    return replaced


def _pairs_by_id(blocks: Iterable[Pairs], members: Members) -> Iterator[tuple[int, int, float, float]]:
    """Yield (older id, newer id, similarity, norm ratio) for each pair of members."""
    for pairs in blocks:
        older, newer = members[pairs["first"]], members[pairs["second"]]
        ratio = rules.norm_ratio(older["norm"], newer["norm"])
        yield from zip(
            older["id"].tolist(), newer["id"].tolist(), pairs["similarity"].tolist(), ratio.tolist(), strict=True
        )
