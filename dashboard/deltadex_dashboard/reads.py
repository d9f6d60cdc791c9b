"""All that the dashboard reads, kept for as long as the data stay the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltadex import clustering, layout, reviews
from deltadex import geometry as measured_geometry
from deltadex.analysis.dendrogram import Dendrogram, dendrogram
from deltadex.analysis.redundancy import Group
from deltadex.analysis.similarity import cosine_similarity
from deltadex.clustering import Explanation
from deltadex.comparison import Comparison, compare
from deltadex.domain import UNDER_WAY, FindingKind, FloatArray, State, VersionRow
from deltadex.drifting import ModelDrift, Towards, model_drift
from deltadex.geometry import Measurement
from deltadex.governance.access import HIDDEN
from deltadex.redundancy import Candidates, RecipeRedundancy, candidates, freed_by_findings
from deltadex.store import clusters, embeddings, findings, layouts, model_history, search, versions, watchers, words
from deltadex.store.clusters import ClusterRow, ClusterRun
from deltadex.store.embeddings import RecipeRow, StoredEmbedding
from deltadex.store.model_history import Line
from deltadex.store.reviews import Chain, LogEntry, ReviewRow
from deltadex.store.search import Neighbor
from deltadex.store.versions import StateChange
from deltadex.store.watchers import WatcherRow
from deltadex.store.words import VersionWords
from deltadex_dashboard.snapshots import Snapshot, kept

#: From here on up previews of near duplicates share what was compared.
LOWEST_PREVIEW = 0.7


@dataclass(frozen=True)
class VersionFacts:
    """Everything about one model version, besides its row.

    Attributes
    ----------
    same_weights
        Versions whose tensors are the same, and those that are its merge or the adapter that it is a merge of.
    """

    embeddings: tuple[StoredEmbedding, ...]
    neighbors: tuple[Neighbor, ...]
    same_weights: tuple[VersionRow, ...]
    reviews: tuple[ReviewRow, ...]
    decisions: tuple[LogEntry, ...]
    history: tuple[StateChange, ...]
    words: tuple[VersionWords, ...]
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True, eq=False)
class Chart:
    """The map of one recipe.

    Attributes
    ----------
    rows
        `n` versions.
    coordinates, strengths, labels
        `(n, 2)` and twice `(n,)`, parallel to `rows`; a label is a position in `clusters`, -1 for none of them.
    run
        The latest clustering; None before the first.
    """

    recipe: RecipeRow
    rows: tuple[VersionRow, ...]
    coordinates: FloatArray
    strengths: FloatArray
    labels: NDArray[np.int64]
    clusters: tuple[ClusterRow, ...]
    run: ClusterRun | None

    @property
    def note(self) -> str:
        """What the clusters rest on, or why there are none."""
        if self.run is None:
            return "Not clustered yet: the reconciler does it within a minute."
        silhouette = "" if self.run.silhouette is None else f" · silhouette {self.run.silhouette:.2f}"
        return self.run.note or (
            f"{len(self.clusters)} clusters where the mean similarity is at least {self.run.cut:g}{silhouette}, "
            f"found {self.run.found_at:%Y-%m-%d %H:%M} UTC."
        )

    def members(self, label: int) -> list[VersionRow]:
        """Return the versions of one cluster."""
        return [self.rows[row] for row in np.flatnonzero(self.labels == label)]


def watcher(now: Snapshot) -> WatcherRow:
    """Return how the watcher is doing; its times are no change of the data, so this is always read."""
    with now.transaction() as tx:
        return watchers.read(tx, now.settings.registry)


@kept
def all_versions(now: Snapshot) -> list[VersionRow]:
    """Return every version that is in the registry, by name and then newest first."""
    with now.transaction() as tx:
        return now.seen(versions.listing(tx, now.settings.registry, states=set(State) - {State.DELETED}))


@kept
def models(now: Snapshot) -> list[str]:
    """Return the registered models that the person may see, by name."""
    with now.transaction() as tx:
        return [name for name in versions.names(tx, now.settings.registry) if now.person.sees(name)]


@kept
def unsettled(now: Snapshot) -> list[VersionRow]:
    """Return the versions that are under way, wait or failed."""
    with now.transaction() as tx:
        states = {*UNDER_WAY, State.FAILED, State.WAITING}
        return now.seen(versions.listing(tx, now.settings.registry, states=states))


@kept
def all_reviews(now: Snapshot) -> list[ReviewRow]:
    """Return every finding with what people made of it, the most severe first and then the earliest due."""
    with now.transaction() as tx:
        return reviews.listing(tx, now.person, now.settings)


@kept
def history(now: Snapshot, review_id: int) -> list[LogEntry]:
    """Return what was done about one finding, oldest first."""
    with now.transaction() as tx:
        return reviews.history(tx, now.person, review_id)


@kept
def log(now: Snapshot, limit: int) -> list[LogEntry]:
    """Return what was done about all findings, newest first."""
    with now.transaction() as tx:
        return reviews.log(tx, now.person, now.settings, limit=limit)


@kept
def chain(now: Snapshot) -> Chain:
    """Compute the log's hashes anew."""
    with now.transaction() as tx:
        return reviews.verify(tx, now.person)


@kept
def weak(now: Snapshot) -> list[VersionRow]:
    """Return the versions that are too weak to place."""
    with now.transaction() as tx:
        found = findings.listing(tx, now.settings.registry, kinds=[FindingKind.TOO_WEAK])
    return now.seen(one.version for one in found)


@kept
def recipes(now: Snapshot) -> list[RecipeRow]:
    """Return the comparable spaces, the largest first."""
    with now.transaction() as tx:
        return embeddings.recipes(tx, now.settings.registry)


@kept
def model(now: Snapshot, name: str) -> list[VersionRow]:
    """Return the versions of one registered model that the person may see, newest first, deleted ones last."""
    if not now.person.sees(name):
        return []
    with now.transaction() as tx:
        return versions.find(tx, now.settings.registry, name)


@kept
def version(now: Snapshot, version_id: int) -> VersionFacts:
    """Return everything about one version."""
    with now.transaction() as tx:
        explained = clustering.explain(tx, now.settings.registry, version_id)
        found = reviews.listing(tx, now.person, now.settings, version_id=version_id)
        merged = [one for one in found if one.finding.kind is FindingKind.EXACT_DUPLICATE and one.is_found]
        same = [*embeddings.same_weights(tx, version_id), *(row for one in merged for row in one.versions)]
        facts = VersionFacts(
            embeddings=tuple(embeddings.of_version(tx, version_id)),
            neighbors=tuple(
                replace(one, version=now.person.view(one.version)) for one in search.neighbors(tx, version_id).neighbors
            ),
            same_weights=tuple(now.seen({row.id: row for row in same if row.id != version_id}.values())),
            reviews=tuple(found),
            decisions=tuple(reviews.history(tx, now.person, *(one.id for one in found))),
            history=tuple(versions.history(tx, version_id)),
            words=tuple(words.of_version(tx, version_id)),
            explanations=tuple(explained),
        )
    # Not inside: it reads the map, in a transaction of its own.
    return replace(facts, explanations=tuple(_masked_parts(now, one) for one in explained))


def _masked_parts(now: Snapshot, explained: Explanation) -> Explanation:
    if now.person.models == ("*",) or not explained.parts:
        return explained
    known = {cluster.id: cluster for cluster in chart(now, explained.embedding.recipe.id).clusters}
    parts = [replace(part, cluster=known.get(part.cluster.id, _nameless(part.cluster))) for part in explained.parts]
    return replace(explained, parts=tuple(parts))


@kept
def chart(now: Snapshot, recipe_id: int) -> Chart:
    """Return the map of one recipe: laid out and clustered ahead of time, where that was done already."""
    recipe = next(recipe for recipe in recipes(now) if recipe.id == recipe_id)
    known = {row.id: row for row in all_versions(now)}
    with now.transaction() as tx:
        stored = layouts.read(tx, recipe_id, now.settings.registry)
        coordinates = layout.places(tx, now.settings.registry, recipe, stored)
        run = clusters.latest_run(tx, recipe_id, now.settings.registry)
    # A version may have left between the two reads.
    there = np.array([version_id in known for version_id in stored.ids.tolist()], dtype=bool)
    rows, labels = tuple(known[one] for one in stored.ids[there].tolist()), stored.labels[there]
    named = {label for label, row in zip(labels.tolist(), rows, strict=True) if row.registered.ref.name != HIDDEN}
    return Chart(
        recipe,
        rows,
        coordinates[there],
        stored.strengths[there],
        labels,
        tuple(one if label in named else _nameless(one) for label, one in enumerate(stored.clusters)),
        run,
    )


def _nameless(cluster: ClusterRow) -> ClusterRow:
    """Return a cluster whose members a person may not see: its name is made of theirs."""
    return replace(
        cluster, name=HIDDEN, label=HIDDEN, label_origin="", given_name=None, given_by=None, given_at=None, terms=()
    )


@kept
def duplicates(now: Snapshot, similarity: float | None = None) -> list[RecipeRedundancy]:
    """Return the groups of redundant versions, or a preview of those at another similarity."""
    compared = _candidates(now, None)
    if similarity is not None and any(similarity < one.calibration.near_similarity.value for one in compared):
        # Higher ones are a choice of the pairs that are known; for these all versions are compared with each other.
        compared = _candidates(now, min(similarity, LOWEST_PREVIEW))
    found = [one.groups(now.settings.thresholds, similarity=similarity) for one in compared]
    return [
        replace(one, groups=tuple(_masked(now, group) for group in one.groups), too_weak=tuple(now.seen(one.too_weak)))
        for one in found
    ]


@kept
def _candidates(now: Snapshot, lowest: float | None) -> list[Candidates]:
    # Kept for all previews: whoever moves the slider once moves it again.
    with now.transaction() as tx:
        return candidates(tx, now.settings.registry, thresholds=now.settings.thresholds, lowest=lowest)


@kept
def freed(now: Snapshot) -> int:
    """Return how many bytes retiring duplicates frees, as far as findings tell."""
    with now.transaction() as tx:
        return freed_by_findings(tx, now.settings.registry, keeper_metric=now.settings.thresholds.keeper_metric)


def _masked(now: Snapshot, group: Group) -> Group:
    keeper = replace(group.keeper, version=now.person.view(group.keeper.version))
    return replace(group, versions=tuple(now.seen(group.versions)), keeper=keeper)


@kept
def similarities(now: Snapshot, recipe_id: int, ids: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the `(n, n)` cosine similarities between these versions."""
    with now.transaction() as tx:
        table = embeddings.table(tx, recipe_id, registry=now.settings.registry, ids=ids)
    position = {row.id: place for place, row in enumerate(table.rows)}
    return cosine_similarity(table.vectors[[position[version_id] for version_id in ids]])


@kept
def comparison(now: Snapshot, recipe_id: int, one: int, other: int) -> Comparison | None:
    """Return how two versions compare under a recipe."""
    recipe = next(recipe for recipe in recipes(now) if recipe.id == recipe_id)
    with now.transaction() as tx:
        return compare(tx, recipe, one, other)


@kept
def lines(now: Snapshot) -> list[Line]:
    """Return how far registered models moved, the largest step first."""
    with now.transaction() as tx:
        found = model_history.lines(tx, now.settings.registry)
    return [one if now.person.sees(one.name) else replace(one, name=HIDDEN) for one in found]


@kept
def drift(now: Snapshot, name: str) -> ModelDrift | None:
    """Return how one registered model moved; None where there is nothing to compare, or the person may not see it."""
    if not now.person.sees(name):
        return None
    with now.transaction() as tx:
        drifted = model_drift(tx, now.settings.registry, name, thresholds=now.settings.thresholds)
    if drifted is None or now.person.models == ("*",):
        return drifted
    return replace(drifted, towards={place: _masked_towards(now, one) for place, one in drifted.towards.items()})


def _masked_towards(now: Snapshot, towards: Towards) -> Towards:
    known = {cluster.id: cluster for cluster in chart(now, towards.recipe_id).clusters}
    both = (towards.left, towards.came_to)
    left, came_to = (one and replace(one, cluster=known.get(one.cluster.id, _nameless(one.cluster))) for one in both)
    return replace(towards, left=left, came_to=came_to)


@kept
def tree(now: Snapshot, recipe_id: int) -> tuple[Dendrogram, list[str]]:
    """Return how the versions of one recipe join, and what to call them."""
    with now.transaction() as tx:
        table = embeddings.table(tx, recipe_id, registry=now.settings.registry)
    return dendrogram(table.vectors), [row.label for row in now.seen(table.rows)]


@kept
def geometry(now: Snapshot, recipe_id: int) -> Measurement | None:
    """Return the geometry of one recipe's embeddings as it was measured last; None where it was not yet."""
    recipe = next(recipe for recipe in recipes(now) if recipe.id == recipe_id)
    with now.transaction() as tx:
        return measured_geometry.latest(tx, now.settings.registry, recipe)
