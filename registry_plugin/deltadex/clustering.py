"""The domains that a registry's models fall into: found now and then, kept, and read by pages and commands."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from deltadex.analysis.clusters import ALONE, AT_ONCE, Clusters, cluster
from deltadex.analysis.continuity import continued
from deltadex.analysis.domains import name_clusters
from deltadex.analysis.mixtures import mixture
from deltadex.analysis.similarity import unit_vectors
from deltadex.domain import FloatArray, VersionRow
from deltadex.errors import AccessDenied, StoreError
from deltadex.governance.access import Person, Right
from deltadex.settings import Settings
from deltadex.store import cluster_runs, clusters, embeddings, watchers, words
from deltadex.store.cluster_runs import FoundCluster
from deltadex.store.clusters import ClusterRow, ClusterRun, Place
from deltadex.store.database import Database, Transaction
from deltadex.store.embeddings import RecipeRow, StoredEmbedding
from deltadex.store.versions import by_ids

#: Share of the compared versions that must have come, gone or changed before a run is due: a run of 100,000 takes half
#: a minute.
_DUE_AT = 0.01
#: Fewer changes wait no longer than this.
_DUE_AFTER = timedelta(days=1)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A version in a cluster; `strength` is its mean cosine similarity with the other members."""

    version: VersionRow
    strength: float


@dataclass(frozen=True)
class Domain:
    """A cluster and its members that are still in the registry, the strongest first."""

    cluster: ClusterRow
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Domains:
    """What the latest run found in one recipe.

    Attributes
    ----------
    run
        None where there was none yet.
    domains
        The largest first.
    alone
        Versions that are like no other.
    unplaced
        Versions that came after the run.
    """

    recipe: RecipeRow
    run: ClusterRun | None
    domains: tuple[Domain, ...]
    alone: tuple[VersionRow, ...]
    unplaced: tuple[VersionRow, ...]


@dataclass(frozen=True)
class Reclustered:
    """What became of one recipe's clusters: how many there are, and how many of them are not new."""

    recipe: RecipeRow
    versions: int
    clusters: int
    continued: int


@dataclass(frozen=True)
class Part:
    """A domain's part in a version's delta: its weight in the combination, and that as a share of all weights."""

    cluster: ClusterRow
    weight: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """A version's delta under one recipe as a mixture of domains.

    Attributes
    ----------
    parts
        The largest first.
    unexplained
        Share of the delta's squared norm that no such mixture reaches; None where there is nothing to explain it by.
    note
        Why it is None.
    """

    embedding: StoredEmbedding
    run: ClusterRun | None
    parts: tuple[Part, ...] = ()
    unexplained: float | None = None
    note: str = ""

    @property
    def words(self) -> str:
        """In one line: `0.7 legal + 0.3 code, 12% unexplained`, or why not."""
        if self.unexplained is None:
            return self.note
        parts = " + ".join(f"{part.share:.1f} {part.cluster.name}" for part in self.parts)
        return f"{parts or 'none of the domains'}, {self.unexplained:.0%} unexplained"


def domains(tx: Transaction, registry: str, recipe: RecipeRow) -> Domains:
    """Return what the latest run found. Nothing is computed."""
    ids = cluster_runs.compared(tx, recipe.id, registry)
    rows, places = by_ids(tx, ids), clusters.places(tx, recipe.id, registry)
    found = clusters.listing(tx, recipe.id, registry)
    members: dict[int, list[Member]] = {one.id: [] for one in found}
    alone, unplaced = [], []
    for version_id in ids:
        place = places.get(version_id)
        # A run that ends meanwhile may have put another cluster in the place of this one.
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


def recluster(database: Database, settings: Settings, recipe: RecipeRow) -> Reclustered:
    """Find the clusters of a recipe anew; those that continue earlier ones keep their ids and given names.

    Raises
    ------
    StoreError
        Another process is at it; or Postgres is away.
    """
    registry = settings.registry
    with database.transaction() as lock:
        if not watchers.lock(lock, f"clusters:{registry}:{recipe.id}"):
            raise StoreError(f"Another process finds the clusters of {recipe.base_name}", hint="Wait.", retryable=True)
        with database.transaction() as tx:
            read_at = cluster_runs.now(tx)
            method = _method(settings, len(cluster_runs.compared(tx, recipe.id, registry)))
            previous = clusters.latest_run(tx, recipe.id, registry)
            places = clusters.places(tx, recipe.id, registry)
            ids, vectors = cluster_runs.vectors(tx, recipe.id, registry, as_codes=method["vectors"] == "codes")
        found = cluster(
            vectors,
            min_similarity=settings.thresholds.cluster_similarity,
            previous_cut=previous.cut if previous else None,
        )
        run = ClusterRun(method, found.cut, found.silhouette, found.note, read_at)
        new = _continuing(ids, found, places)
        alone = [ids[row] for row in found.members(ALONE)]

        def store(tx: Transaction) -> None:
            ids = cluster_runs.replace(tx, recipe.id, registry, run=run, found=new, alone=alone)
            _name(tx, recipe.id, ids, new, alone)

        database.run(store)
    kept = sum(one.continues is not None for one in new)
    log.info("clustered recipe=%s versions=%d clusters=%d continued=%d", recipe.digest[:12], len(ids), len(new), kept)
    return Reclustered(recipe, len(ids), len(new), kept)


def recluster_where_due(database: Database, settings: Settings) -> list[Reclustered]:
    """Find clusters anew where enough has changed, or any little thing for long; leave what another process is at."""
    done = []
    with database.transaction() as tx:
        due = [one for one in embeddings.recipes(tx, settings.registry) if is_due(tx, settings, one)]
    for recipe in due:
        try:
            done.append(recluster(database, settings, recipe))
        except StoreError as error:
            if not error.retryable:
                raise
            log.info("clusters left for later recipe=%s error=%r", recipe.digest[:12], error.message)
    return done


def is_due(tx: Transaction, settings: Settings, recipe: RecipeRow) -> bool:
    """Tell whether the latest run no longer says what one of now would."""
    now = cluster_runs.changes(tx, recipe.id, settings.registry)
    stored = clusters.latest_run(tx, recipe.id, settings.registry)
    if not now.compared:
        return False
    if stored is None or stored.method != _method(settings, now.compared):
        return True
    is_old = datetime.now(UTC) - stored.found_at > _DUE_AFTER
    return now.changed > 0 and (is_old or now.changed >= _DUE_AT * now.compared)


def explain(tx: Transaction, registry: str, version_id: int) -> list[Explanation]:
    """Return a version's mixture under each of its recipes, the latest embedding first."""
    return [_explained(tx, registry, version_id, stored) for stored in embeddings.of_version(tx, version_id)]


def rename(tx: Transaction, person: Person, registry: str, cluster_id: int, name: str) -> None:
    """Give a cluster a name that later runs keep; blank: take back the one that was given.

    Raises
    ------
    AccessDenied
        The person decides nothing, or may see none of its models.
    StoreError
        The registry has no such cluster, or another one of its recipe was given this name.
    """
    person.require(Right.DECIDE)
    models = {row.registered.ref.name for row in by_ids(tx, clusters.members(tx, cluster_id)).values()}
    if models and not any(map(person.sees, models)):
        raise AccessDenied(f"{person.name} may see no model of cluster {cluster_id}", hint="Somebody who may names it.")
    clusters.rename(tx, registry, cluster_id, name, by=person.name)
    log.info("renamed cluster=%d by=%s", cluster_id, person.name)


def _method(settings: Settings, count: int) -> Mapping[str, object]:
    method: dict[str, object] = {
        "algorithm": "average linkage, cut at the best silhouette",
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
    every = [version_id for group in (*members, alone) for version_id in group]
    rows, said = by_ids(tx, every), words.of_versions(tx, recipe_id, every)
    names = name_clusters(
        [[rows[version_id].registered for version_id in group] for group in members],
        rest=[rows[version_id].registered for version_id in alone],
        words={rows[version_id].registered.ref: heard for version_id, heard in said.items()},
    )
    for cluster_id, name in zip(ids, names, strict=True):
        clusters.label(tx, cluster_id, name)


def _explained(tx: Transaction, registry: str, version_id: int, embedding: StoredEmbedding) -> Explanation:
    recipe_id = embedding.recipe.id
    run = clusters.latest_run(tx, recipe_id, registry)
    if embedding.is_weak or not embedding.norm:
        return Explanation(embedding, run, note="It changes its base too little for a direction to mean anything.")
    rows = clusters.listing(tx, recipe_id, registry)
    directions = _directions_without(tx, registry, version_id, embedding)
    known = [row for row in rows if row.id in directions]
    if run is None or not known:
        return Explanation(embedding, run, note="There are no clusters yet to explain it by: `deltadex clusters`.")
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
    """Return the clusters' directions by id, as if the version were not among them: it must not explain itself."""
    directions = clusters.centres(tx, embedding.recipe.id, registry)
    own = clusters.own_cluster(tx, embedding.recipe.id, version_id)
    if own is not None:
        unit = unit_vectors(embedding.vector[None])[0]
        rest = directions[own.cluster_id] * own.size - unit
        directions[own.cluster_id] = rest.astype(np.float32)
    return {cluster_id: direction for cluster_id, direction in directions.items() if direction.any()}
