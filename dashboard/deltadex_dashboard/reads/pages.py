"""Reads of the dashboard, cached until the data change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.access import read_directory
from deltadex.bases import own_method as methods
from deltadex.clusters import runs as cluster_runs
from deltadex.clusters.runs import Explanation
from deltadex.drift.model_drift import ModelDrift, model_drift
from deltadex.drift.model_drift import lines as model_lines
from deltadex.drift.queries import Line
from deltadex.duplicates.overview import Candidates, RecipeRedundancy, candidates
from deltadex.duplicates.overview import similarities as cosine_similarities
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.promoted_tokens import VersionWords
from deltadex.embeddings.queries import RecipeRow, StoredEmbedding
from deltadex.evidence.pack import evidence_pack, zipped
from deltadex.evidence.signing import signer_of
from deltadex.evidence.time_stamp import time_stamper_of
from deltadex.geometry import reads as geometries
from deltadex.geometry.measure import Measurement
from deltadex.ingest import backfill as backfills
from deltadex.ingest import machines
from deltadex.ingest import queries as watchers
from deltadex.ingest.backfill import Backfill
from deltadex.ingest.machines import Machine
from deltadex.ingest.queries import WatcherRow
from deltadex.map import chart as maps
from deltadex.map.chart import Chart
from deltadex.reports.governance import governance_report
from deltadex.reports.table import as_html
from deltadex.reviews import actions as reviews
from deltadex.reviews.chain import Chain
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.search import reads as search
from deltadex.search.neighbors import Neighbor
from deltadex.types import UNDER_WAY, FindingKind, State, VersionRow
from deltadex.versions import reads as versions
from deltadex.versions.queries import StateChange
from deltadex.witness.queries import WitnessState
from deltadex.witness.reads import witness_states
from deltadex_dashboard.reads.snapshots import Snapshot, cached

#: Lowest similarity in the slider of near duplicates; previews from here up share one comparison of all versions.
LOWEST_PREVIEW = 0.7


@dataclass(frozen=True)
class VersionFacts:
    """Facts of one model version, besides its row.

    Attributes
    ----------
    same_weights
        Versions with equal tensors, merges of this version, and the adapter that it is a merge of.
    """

    embeddings: tuple[StoredEmbedding, ...]
    neighbors: tuple[Neighbor, ...]
    same_weights: tuple[VersionRow, ...]
    reviews: tuple[ReviewRow, ...]
    decisions: tuple[LogEntry, ...]
    history: tuple[StateChange, ...]
    words: tuple[VersionWords, ...]
    explanations: tuple[Explanation, ...]


def watcher(now: Snapshot) -> WatcherRow:
    """Return the watcher's state. Not cached, because its times do not change the data's revision."""
    with now.transaction() as tx:
        return watchers.read(tx, now.settings.registry)


def online_machines(now: Snapshot) -> list[Machine]:
    """Return the machines whose worker runs. Not cached, as the watcher's state isn't."""
    with now.transaction() as tx:
        return machines.online(tx, now.settings.server)


@cached
def all_versions(now: Snapshot) -> list[VersionRow]:
    """Return all versions in the registry, by name and then newest first."""
    with now.transaction() as tx:
        return versions.listing(tx, now.person, now.settings.registry, states=set(State) - {State.DELETED})


@cached
def models(now: Snapshot) -> list[str]:
    """Return the names of the registered models that the person may see, sorted."""
    with now.transaction() as tx:
        return versions.names(tx, now.person, now.settings.registry)


@cached
def unsettled(now: Snapshot) -> list[VersionRow]:
    """Return the versions that are in progress, waiting, failed or unsupported."""
    with now.transaction() as tx:
        states = {*UNDER_WAY, State.FAILED, State.WAITING, State.UNSUPPORTED}
        return versions.listing(tx, now.person, now.settings.registry, states=states)


@cached
def backfill(now: Snapshot) -> Backfill:
    """Return how many versions wait to be embedded, and how long that will take."""
    with now.transaction() as tx:
        return backfills.overview(tx, now.person, now.settings.registry)


@cached
def all_reviews(now: Snapshot) -> list[ReviewRow]:
    """Return all findings with their reviews, the most severe first and then the earliest due."""
    with now.transaction() as tx:
        return reviews.listing(tx, now.person, now.settings)


def people(now: Snapshot) -> list[str]:
    """Return the people that a finding can be assigned to: the viewer, those of the access file, owners, assignees.

    Not cached: people with equal rights share the cache.
    """
    directory = read_directory(now.settings)
    named = set(directory.people) if directory else set()
    rows = all_reviews(now)
    return sorted(named | {now.person.name} | {name for row in rows for name in (row.assignee, row.owner) if name})


@cached
def history(now: Snapshot, review_id: int) -> list[LogEntry]:
    """Return the log of one finding, oldest entry first."""
    with now.transaction() as tx:
        return reviews.history(tx, now.person, now.settings, review_id)


@cached
def log(now: Snapshot, limit: int) -> list[LogEntry]:
    """Return the log of all findings, newest entry first."""
    with now.transaction() as tx:
        return reviews.log(tx, now.person, now.settings, limit=limit)


@cached
def chain(now: Snapshot) -> Chain:
    """Verify the log's hash chain."""
    with now.transaction() as tx:
        return reviews.verify(tx, now.person)


def witnesses(now: Snapshot) -> Sequence[WitnessState]:
    """Return the state of publication to each witness. Not cached, as the watcher's state isn't."""
    with now.transaction() as tx:
        return witness_states(tx, now.person, now.settings)


def report(now: Snapshot) -> str:
    """Return the governance report as one HTML file. Not cached: it is large, and made on request."""
    with now.transaction() as tx:
        return as_html(governance_report(tx, now.person, now.settings))


def evidence(now: Snapshot, version_id: int) -> bytes:
    """Return the evidence pack of a version as a ZIP file, signed if there is a key. Made on request, as the report."""
    with now.transaction() as tx:
        pack = evidence_pack(tx, now.person, now.settings, version_id)
    signer = signer_of(now.settings)
    return zipped(pack, signer=signer, time_stamper=time_stamper_of(now.settings) if signer else None)


@cached
def weak(now: Snapshot) -> list[VersionRow]:
    """Return the versions that are too weak for a place on the map."""
    with now.transaction() as tx:
        return maps.too_weak(tx, now.person, now.settings.registry)


@cached
def recipes(now: Snapshot) -> list[RecipeRow]:
    """Return the recipes, the largest first."""
    with now.transaction() as tx:
        return embeddings.recipes(tx, now.person, now.settings.registry)


@cached
def own_method(now: Snapshot) -> str:
    """Return the name of the registry's own method of embedding."""
    with now.transaction() as tx:
        return methods.own_method(tx, now.settings.registry)


@cached
def model(now: Snapshot, name: str) -> list[VersionRow]:
    """Return the versions of one registered model that the person may see, newest first, deleted ones last."""
    with now.transaction() as tx:
        return versions.find(tx, now.person, now.settings.registry, name)


@cached
def version(now: Snapshot, version_id: int) -> VersionFacts:
    """Return the facts of one version."""
    viewer = now.person
    with now.transaction() as tx:
        findings = reviews.listing(tx, viewer, now.settings, version_id=version_id)
        exact = [row for row in findings if row.finding.kind is FindingKind.EXACT_DUPLICATE and row.is_found]
        same = [
            *embeddings.same_weights(tx, viewer, version_id),
            *(version for row in exact for version in row.versions),
        ]
        return VersionFacts(
            embeddings=tuple(embeddings.of_version(tx, viewer, version_id)),
            neighbors=search.neighbors(tx, viewer, version_id).neighbors,
            same_weights=tuple({row.id: row for row in same if row.id != version_id}.values()),
            reviews=tuple(findings),
            decisions=tuple(reviews.history(tx, viewer, now.settings, *(row.id for row in findings))),
            history=tuple(versions.history(tx, viewer, version_id)),
            words=tuple(promoted_tokens.of_version(tx, viewer, version_id)),
            explanations=tuple(cluster_runs.explain(tx, viewer, now.settings.registry, version_id)),
        )


@cached
def chart(now: Snapshot, recipe_id: int) -> Chart:
    """Return the map of one recipe, with its stored layout and clusters if there are any."""
    recipe, known = _recipe(now, recipe_id), {row.id: row for row in all_versions(now)}
    with now.transaction() as tx:
        return maps.chart(tx, now.person, now.settings.registry, recipe, known=known)


def _recipe(now: Snapshot, recipe_id: int) -> RecipeRow:
    return next(recipe for recipe in recipes(now) if recipe.id == recipe_id)


@cached
def duplicates(now: Snapshot, similarity: float | None = None) -> list[RecipeRedundancy]:
    """Return the groups of redundant versions, or a preview of the groups at another similarity."""
    of_recipes = _candidates(now, None)
    if similarity is not None and any(similarity < one.calibration.near_similarity.value for one in of_recipes):
        # The known pairs include all pairs of a higher similarity. For a lower one, all versions are compared.
        of_recipes = _candidates(now, min(similarity, LOWEST_PREVIEW))
    return [one.groups(similarity) for one in of_recipes]


@cached
def _candidates(now: Snapshot, lowest: float | None) -> list[Candidates]:
    # Cached separately, because all previews above `LOWEST_PREVIEW` share one comparison.
    with now.transaction() as tx:
        return candidates(tx, now.person, now.settings, lowest=lowest)


@cached
def similarities(now: Snapshot, recipe_id: int, ids: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the `(n, n)` cosine similarities between versions."""
    with now.transaction() as tx:
        return cosine_similarities(tx, now.settings.registry, recipe_id, ids)


@cached
def lines(now: Snapshot) -> list[Line]:
    """Return the drift of all registered models in numbers, the largest step first."""
    with now.transaction() as tx:
        return model_lines(tx, now.person, now.settings.registry)


@cached
def drift(now: Snapshot, name: str) -> ModelDrift | None:
    """Return the drift of one registered model; None if it can't be compared, or the person may not see it."""
    with now.transaction() as tx:
        return model_drift(tx, now.person, now.settings.registry, name, thresholds=now.settings.thresholds)


@cached
def geometry(now: Snapshot, recipe_id: int) -> Measurement | None:
    """Return the latest measurement of the geometry of one recipe's embeddings; None if there is none."""
    recipe = _recipe(now, recipe_id)
    with now.transaction() as tx:
        return geometries.latest(tx, now.person, now.settings.registry, recipe)
