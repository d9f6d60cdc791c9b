"""Queries of the latest clusters of each recipe. Ids and given names outlive the runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from deltadex.clusters.names import DomainName, LabelOrigin, Term
from deltadex.errors import StoreError
from deltadex.store.database import Transaction
from deltadex.types import FloatArray


@dataclass(frozen=True)
class ClusterRun:
    """A clustering run.

    Attributes
    ----------
    method
        Algorithm and parameters.
    cut, silhouette, note
        See `deltadex.clusters.partition.Clusters`.
    found_at
        Time at which the embeddings were read.
    """

    method: Mapping[str, object]
    cut: float
    silhouette: float | None
    note: str
    found_at: datetime


@dataclass(frozen=True)
class ClusterRow:
    """One cluster.

    Attributes
    ----------
    id
        Permanent id: kept while later runs continue the cluster, and never reused.
    number
        Small number, kept while later runs continue the cluster; reused after that.
    name
        Name for display: the given name, else the generated one, else the number.
    label, label_origin
        Generated name, and its origin.
    given_name
        Name that a person gave; None if there is none.
    given_by, given_at
        Person and time of the latest renaming; None if there was none or it was not recorded.
    terms
        Over-represented terms of the members by origin, highest weight first.
    """

    id: int
    number: int
    name: str
    label: str
    label_origin: str
    given_name: str | None
    given_by: str | None
    given_at: datetime | None
    terms: tuple[Term, ...]

    def of(self, origin: LabelOrigin) -> list[str]:
        """Return the terms of one origin."""
        return [term.text for term in self.terms if term.origin is origin]

    @property
    def named_by(self) -> str:
        """Origin of the name."""
        return self.given_by or "a person" if self.given_name else self.label_origin


@dataclass(frozen=True)
class Place:
    """A version's cluster id and its mean similarity to the other members; None for a version in no cluster."""

    cluster_id: int | None
    strength: float | None


@dataclass(frozen=True)
class OwnCluster:
    """The cluster of a version, and its number of members including the version."""

    cluster_id: int
    size: int


def latest_run(tx: Transaction, recipe_id: int, registry: str) -> ClusterRun | None:
    """Return the latest run; None if there was none."""
    row = tx.execute(
        "select method, cut, silhouette, note, found_at from cluster_runs where recipe_id = %s and registry = %s",
        [recipe_id, registry],
    ).fetchone()
    return None if row is None else ClusterRun(*row)


def listing(tx: Transaction, recipe_id: int, registry: str) -> list[ClusterRow]:
    """Return the clusters of the latest run by number."""
    found = tx.execute(
        """
        select id, number, shown_name, label, label_origin, given_name, given_by, given_at, terms from clusters
        where recipe_id = %s and registry = %s order by number
        """,
        [recipe_id, registry],
    )
    return [
        ClusterRow(cluster_id, number, name, label, origin, given_name, given_by, given_at, _terms(terms))
        for cluster_id, number, name, label, origin, given_name, given_by, given_at, terms in found
    ]


def places(tx: Transaction, recipe_id: int, registry: str) -> dict[int, Place]:
    """Return the place of each version in the latest run, by id; includes deleted versions."""
    found = tx.execute(
        """
        select model_version_id, cluster_id, strength
        from cluster_assignments join model_versions on id = model_version_id
        where recipe_id = %s and registry = %s
        """,
        [recipe_id, registry],
    )
    return {version_id: Place(cluster_id, strength) for version_id, cluster_id, strength in found}


def places_of(tx: Transaction, recipe_id: int, version_ids: Collection[int]) -> dict[int, Place]:
    """Return the places of these versions in the latest run, by id."""
    found = tx.execute(
        """
        select model_version_id, cluster_id, strength from cluster_assignments
        where recipe_id = %s and model_version_id = any(%s)
        """,
        [recipe_id, list(version_ids)],
    )
    return {version_id: Place(cluster_id, strength) for version_id, cluster_id, strength in found}


def own_cluster(tx: Transaction, recipe_id: int, version_id: int) -> OwnCluster | None:
    """Return the cluster of a version; None if it is in none."""
    row = tx.execute(
        """
        select own.cluster_id, (select count(*) from cluster_assignments every where every.cluster_id = own.cluster_id)
        from cluster_assignments own where recipe_id = %s and model_version_id = %s and own.cluster_id is not null
        """,
        [recipe_id, version_id],
    ).fetchone()
    return None if row is None else OwnCluster(*row)


def label(tx: Transaction, cluster_id: int, name: DomainName) -> None:
    """Store the generated name of a cluster with its origin and terms; a given name stays."""
    terms = [(term.text, term.origin, term.members, term.weight) for term in name.terms]
    tx.execute(
        "update clusters set label = %s, label_origin = %s, terms = %s where id = %s",
        [name.text, name.origin, Jsonb(terms), cluster_id],
    )


def _terms(listed: Sequence[tuple[str, str, int, float]]) -> tuple[Term, ...]:
    return tuple(Term(text, LabelOrigin(origin), members, weight) for text, origin, members, weight in listed)


def recipes_with_clusters(tx: Transaction, registry: str) -> list[int]:
    """Return the ids of the recipes that have clusters."""
    found = tx.execute("select distinct recipe_id from clusters where registry = %s order by 1", [registry])
    return [recipe_id for (recipe_id,) in found]


def rename(tx: Transaction, registry: str, cluster_id: int, name: str | None, *, by: str) -> None:
    """Store a given name of a cluster, which later runs keep; None or blank removes it.

    Permissions are checked by `deltadex.clusters.runs.rename`.

    Raises
    ------
    StoreError
        The registry has no such cluster, or another cluster of the recipe has this given name.
    """
    given_name = (name or "").strip() or None
    parameters = [cluster_id, registry, given_name, by]
    if tx.execute("select rename_cluster(%s, %s, %s, %s)", parameters).fetchone() == (None,):
        known = tx.execute("select 1 from clusters where id = %s and registry = %s", [cluster_id, registry]).fetchone()
        message = f"Another cluster is named {given_name!r}" if known else f"There is no cluster with id {cluster_id}"
        raise StoreError(message, hint="`deltadex clusters` lists them with their ids.")


def members(tx: Transaction, cluster_id: int) -> list[int]:
    """Return the version ids of a cluster; includes deleted versions."""
    found = tx.execute(
        "select model_version_id from cluster_assignments where cluster_id = %s order by 1", [cluster_id]
    )
    return [version_id for (version_id,) in found]


def models_of_members(tx: Transaction, recipe_id: int, registry: str) -> list[tuple[int, int, str]]:
    """Return cluster id, version id and registered model of each member; includes deleted versions."""
    return tx.execute(
        """
        select cluster_id, model_version_id, name
        from cluster_assignments join model_versions on id = model_version_id
        where recipe_id = %s and registry = %s and cluster_id is not null
        """,
        [recipe_id, registry],
    ).fetchall()


def centres(tx: Transaction, recipe_id: int, registry: str) -> dict[int, FloatArray]:
    """Return the `(dimension,)` float32 mean of each cluster's unit vectors, by cluster id.

    A unit vector's scalar product with it is its mean cosine similarity to the members.
    """
    found = tx.execute(
        "select id, centre from clusters where recipe_id = %s and registry = %s order by number",
        [recipe_id, registry],
        binary=True,
    )
    return {cluster_id: centre.to_numpy() for cluster_id, centre in found}


def newest_members(
    tx: Transaction, recipe_id: int, registry: str, *, of_each: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the cluster ids `(n,)` and deltas `(n, dimension)` of the newest members of each cluster.

    Deleted versions and those that are too weak to place are left out.
    """
    found = tx.execute(
        """
        select cluster_id, vector
        from (
            select cluster_id, id, row_number() over (partition by cluster_id order by id desc) as place
            from cluster_assignments join model_versions on id = model_version_id
            where recipe_id = %(recipe)s and registry = %(registry)s and cluster_id is not null and state <> 'deleted'
        ) members join current_embeddings on model_version_id = members.id and recipe_id = %(recipe)s
        where place <= %(of_each)s and has_direction
        order by members.id
        """,
        {"recipe": recipe_id, "registry": registry, "of_each": of_each},
        binary=True,
    ).fetchall()
    ids = np.array([cluster_id for cluster_id, _ in found], dtype=np.int64)
    return ids, np.stack([vector.to_numpy() for _, vector in found]) if found else np.empty((0, 0), np.float32)
