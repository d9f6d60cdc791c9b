"""Domain clusters of a registry: periodic runs, and reads for pages and commands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from deltadex.access import Person, Right
from deltadex.clusters import queries as clusters
from deltadex.clusters import reads as visible_clusters
from deltadex.clusters import run_queries as cluster_runs
from deltadex.clusters.continuity import continued
from deltadex.clusters.mixture import mixture
from deltadex.clusters.names import name_clusters
from deltadex.clusters.partition import ALONE, AT_ONCE, Clusters, cluster
from deltadex.clusters.queries import ClusterRow, ClusterRun, Place
from deltadex.clusters.run_queries import FoundCluster
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow, StoredEmbedding
from deltadex.errors import AccessDenied, StoreError
from deltadex.settings import Settings
from deltadex.store import clock, locks
from deltadex.store.database import Database, Transaction
from deltadex.types import DOMAIN_TAG, FloatArray, VersionRow
from deltadex.vectors import unit_vectors
from deltadex.versions.queries import by_ids

#: A run is due once this share of the versions came, went or changed; a run of 100,000 versions takes half a minute.
_DUE_AT = 0.01
#: With fewer changes a run is due after this time.
_DUE_AFTER = timedelta(days=1)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A version in a cluster; `strength` is its mean cosine similarity to the other members."""

    version: VersionRow
    strength: float


@dataclass(frozen=True)
class Domain:
    """A cluster and its members that are still in the registry, by descending strength."""

    cluster: ClusterRow
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Domains:
    """Domains of one recipe, from the latest run.

    Attributes
    ----------
    run
        The latest run; None if there was none yet.
    domains
        Domains by descending size.
    alone
        Versions in no cluster.
    unplaced
        Versions that came after the run.
    """

    recipe: RecipeRow
    run: ClusterRun | None
    domains: tuple[Domain, ...]
    alone: tuple[VersionRow, ...]
    unplaced: tuple[VersionRow, ...]


@dataclass(frozen=True)
class ClusteringResult:
    """Result of a run: number of versions, of clusters, and of clusters that continue earlier ones."""

    recipe: RecipeRow
    versions: int
    clusters: int
    continued: int


@dataclass(frozen=True)
class Part:
    """A domain's weight in a version's mixture, and its share of all weights."""

    cluster: ClusterRow
    weight: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """A version's delta under one recipe as a mixture of domains.

    Attributes
    ----------
    parts
        Parts by descending weight.
    unexplained
        Share of the delta's squared norm in the residual; None if there is no mixture.
    note
        Reason why there is no mixture.
    """

    embedding: StoredEmbedding
    run: ClusterRun | None
    parts: tuple[Part, ...] = ()
    unexplained: float | None = None
    note: str = ""

    @property
    def words(self) -> str:
        """The mixture in one line, such as `0.7 legal + 0.3 code, 12% unexplained`, or the note."""
        if self.unexplained is None:
            return self.note
        parts = " + ".join(f"{part.share:.1f} {part.cluster.name}" for part in self.parts)
        return f"{parts or 'none of the domains'}, {self.unexplained:.0%} unexplained"


def domains(tx: Transaction, viewer: Person, registry: str, recipe: RecipeRow) -> Domains:
    """Return the domains of the latest run, with hidden models masked. Computes nothing."""
    ids = cluster_runs.compared(tx, recipe.id, registry)
    rows = {each: viewer.view(row) for each, row in by_ids(tx, ids).items()}
    places = clusters.places(tx, recipe.id, registry)
    found = visible_clusters.listing(tx, viewer, recipe.id, registry)
    members: dict[int, list[Member]] = {one.id: [] for one in found}
    alone, unplaced = [], []
    for version_id in ids:
        place = places.get(version_id)
        # Another run may have replaced this cluster between the two reads.
        if place is None or (place.cluster_id is not None and place.cluster_id not in members):
            unplaced.append(rows[version_id])
        elif place.cluster_id is None or place.strength is None:
            alone.append(rows[version_id])
        else:
            members[place.cluster_id].append(Member(rows[version_id], place.strength))
    filled = [
        Domain(one, tuple(sorted(members[one.id], key=lambda member: -member.strength)))
        for one in found
        if members[one.id]
    ]
    largest_first = sorted(filled, key=lambda domain: -len(domain.members))
    run = clusters.latest_run(tx, recipe.id, registry)
    return Domains(recipe, run, tuple(largest_first), tuple(alone), tuple(unplaced))


def recluster(
    database: Database,
    settings: Settings,
    recipe: RecipeRow,
    *,
    before_storing: Callable[[], None] = lambda: None,
) -> ClusteringResult:
    """Recompute the clusters of a recipe; those that continue earlier ones keep their ids and given names.

    Parameters
    ----------
    before_storing
        Called after the versions are read and before the run is stored.

    Raises
    ------
    StoreError
        Another process is clustering this recipe, or Postgres is unreachable.
    """
    registry = settings.registry
    with database.transaction() as lock:
        if not locks.lock(lock, f"clusters:{registry}:{recipe.id}"):
            raise StoreError(f"Another process finds the clusters of {recipe.base_name}", hint="Wait.", retryable=True)
        with database.transaction() as tx:
            read_at = clock.now(tx)
            method = _method(settings, len(cluster_runs.compared(tx, recipe.id, registry)))
            previous = clusters.latest_run(tx, recipe.id, registry)
            places = clusters.places(tx, recipe.id, registry)
            ids, vectors = cluster_runs.vectors(tx, recipe.id, registry, as_codes=method["vectors"] == "codes")
            rows = by_ids(tx, ids)
        found = cluster(
            vectors,
            min_similarity=settings.thresholds.cluster_similarity,
            declared=[rows[each].registered.tags.get(DOMAIN_TAG) for each in ids],
            previous_cut=previous.cut if previous else None,
        )
        run = ClusterRun(method, found.cut, found.silhouette, found.note, read_at)
        new = _continuing(ids, found, places)
        alone = [ids[row] for row in found.members(ALONE)]

        def store(tx: Transaction) -> None:
            ids = cluster_runs.replace(tx, recipe.id, registry, run=run, found=new, alone=alone)
            _name(tx, recipe.id, ids, new, alone)

        before_storing()
        database.run(store)
    continued_count = sum(one.continues is not None for one in new)
    log.info(
        "clustered recipe=%s versions=%d clusters=%d continued=%d",
        recipe.digest[:12],
        len(ids),
        len(new),
        continued_count,
    )
    return ClusteringResult(recipe, len(ids), len(new), continued_count)


def is_due(tx: Transaction, settings: Settings, recipe: RecipeRow) -> bool:
    """Return True if a new run is due: enough versions changed, or the method did."""
    now = cluster_runs.changes(tx, recipe.id, settings.registry)
    stored = clusters.latest_run(tx, recipe.id, settings.registry)
    if not now.compared:
        return False
    if stored is None or stored.method != _method(settings, now.compared):
        return True
    is_old = clock.now(tx) - stored.found_at > _DUE_AFTER
    return now.changed > 0 and (is_old or now.changed >= _DUE_AT * now.compared)


def explain(tx: Transaction, viewer: Person, registry: str, version_id: int) -> list[Explanation]:
    """Return a version's mixture under each of its recipes, latest embedding first; empty for a hidden version."""
    stored = embeddings.of_version(tx, viewer, version_id)
    return [_explained(tx, viewer, registry, version_id, one) for one in stored]


def rename(tx: Transaction, person: Person, registry: str, cluster_id: int, name: str) -> None:
    """Give a cluster a name, which later runs keep; blank removes it.

    Raises
    ------
    AccessDenied
        The person may not decide, or may see none of the cluster's models.
    StoreError
        The registry has no such cluster, or another cluster of the recipe has this given name.
    """
    person.require(Right.DECIDE)
    models = {row.registered.ref.name for row in by_ids(tx, clusters.members(tx, cluster_id)).values()}
    if models and not any(map(person.sees, models)):
        raise AccessDenied(
            f"{person.name} may see no model of cluster {cluster_id}", hint="A person who may see one can name it."
        )
    clusters.rename(tx, registry, cluster_id, name, by=person.name)
    log.info("renamed cluster=%d by=%s", cluster_id, person.name)


def _method(settings: Settings, count: int) -> Mapping[str, object]:
    method: dict[str, object] = {
        "algorithm": "average linkage, cut at the best silhouette, divided by declared domains",
        "min_similarity": settings.thresholds.cluster_similarity,
        "vectors": "codes" if count > AT_ONCE else "full",
    }
    return {**method, "at_once": AT_ONCE} if count > AT_ONCE else method


def _continuing(ids: Sequence[int], found: Clusters, places: Mapping[int, Place]) -> list[FoundCluster]:
    before = {version_id: place.cluster_id for version_id, place in places.items() if place.cluster_id is not None}
    now = {version_id: int(label) for version_id, label in zip(ids, found.labels, strict=True) if label != ALONE}
    continues = continued(before, now)
    return [
        FoundCluster(continues.get(label), {ids[row]: float(found.strengths[row]) for row in found.members(label)})
        for label in range(found.count)
    ]


def _name(
    tx: Transaction, recipe_id: int, ids: Sequence[int], found: Sequence[FoundCluster], alone: Sequence[int]
) -> None:
    members = [list(one.strengths) for one in found]
    all_ids = [version_id for group in (*members, alone) for version_id in group]
    rows, words = by_ids(tx, all_ids), promoted_tokens.of_versions(tx, recipe_id, all_ids)
    names = name_clusters(
        [[rows[version_id].registered for version_id in group] for group in members],
        rest=[rows[version_id].registered for version_id in alone],
        words={rows[version_id].registered.ref: one for version_id, one in words.items()},
    )
    for cluster_id, name in zip(ids, names, strict=True):
        clusters.label(tx, cluster_id, name)


def _explained(
    tx: Transaction, viewer: Person, registry: str, version_id: int, embedding: StoredEmbedding
) -> Explanation:
    recipe_id = embedding.recipe.id
    run = clusters.latest_run(tx, recipe_id, registry)
    if embedding.is_weak or not embedding.norm:
        return Explanation(embedding, run, note="It changes its base too little: its direction is mostly noise.")
    rows = visible_clusters.listing(tx, viewer, recipe_id, registry)
    directions = _directions_without(tx, registry, version_id, embedding)
    known = [row for row in rows if row.id in directions]
    if run is None or not known:
        return Explanation(embedding, run, note="There are no clusters yet: see `deltadex clusters`.")
    found = mixture(embedding.vector, np.stack([directions[row.id] for row in known]))
    parts = [
        Part(row, float(weight), float(share))
        for row, weight, share in zip(known, found.weights, found.shares, strict=True)
        if weight > 0
    ]
    return Explanation(embedding, run, tuple(sorted(parts, key=lambda part: -part.weight)), found.unexplained)


def _directions_without(
    tx: Transaction, registry: str, version_id: int, embedding: StoredEmbedding
) -> dict[int, FloatArray]:
    """Return the clusters' directions by id, without the version's own contribution: it must not explain itself."""
    directions = clusters.centres(tx, embedding.recipe.id, registry)
    own = clusters.own_cluster(tx, embedding.recipe.id, version_id)
    if own is not None:
        unit = unit_vectors(embedding.vector[None])[0]
        rest = directions[own.cluster_id] * own.size - unit
        directions[own.cluster_id] = rest.astype(np.float32)
    return {cluster_id: direction for cluster_id, direction in directions.items() if direction.any()}
