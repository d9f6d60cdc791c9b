"""The latest clusters of each recipe in a registry; their ids and given names outlive the runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from deltadex.analysis.domains import DomainName, Origin, Term
from deltadex.domain import FloatArray
from deltadex.errors import StoreError
from deltadex.store.database import Transaction


@dataclass(frozen=True)
class ClusterRun:
    """How and when clusters were found.

    Attributes
    ----------
    method
        Algorithm and parameters.
    cut, silhouette, note
        As in `deltadex.analysis.clusters.Clusters`.
    found_at
        When the embeddings were read.
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
        Stays for as long as later runs continue the cluster, and is never used again.
    number
        Small and as lasting; free again when the cluster is gone.
    name
        What to call it: the name that a person gave, else the one that Deltadex found, else its number.
    label, label_origin
        The name that Deltadex found, and what that rests on.
    given_name
        The name that a person gave.
    given_by, given_at
        Who gave it, or took it back, and when; None where nobody did, or before that was kept.
    terms
        What is over-represented among the members, by origin, the most telling first.
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

    def of(self, origin: Origin) -> list[str]:
        """Return the terms of one origin."""
        return [term.text for term in self.terms if term.origin is origin]

    @property
    def named_by(self) -> str:
        """Where the name is from."""
        return self.given_by or "a person" if self.given_name else self.label_origin


@dataclass(frozen=True)
class Place:
    """Where a run placed a version: a cluster's id and the mean similarity with its other members, or alone."""

    cluster_id: int | None
    strength: float | None


@dataclass(frozen=True)
class OwnCluster:
    """The cluster that a version is in, and how many versions are, itself included."""

    cluster_id: int
    size: int


def latest_run(tx: Transaction, recipe_id: int, registry: str) -> ClusterRun | None:
    """Return the latest run; None where there was none."""
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
    """Return where the latest run placed each version that it compared, by id; deleted ones are among them."""
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
    """Return where the latest run placed these versions, by id."""
    found = tx.execute(
        """
        select model_version_id, cluster_id, strength from cluster_assignments
        where recipe_id = %s and model_version_id = any(%s)
        """,
        [recipe_id, list(version_ids)],
    )
    return {version_id: Place(cluster_id, strength) for version_id, cluster_id, strength in found}


def own_cluster(tx: Transaction, recipe_id: int, version_id: int) -> OwnCluster | None:
    """Return the cluster that a version is in; None where it is in none."""
    row = tx.execute(
        """
        select own.cluster_id, (select count(*) from cluster_assignments every where every.cluster_id = own.cluster_id)
        from cluster_assignments own where recipe_id = %s and model_version_id = %s and own.cluster_id is not null
        """,
        [recipe_id, version_id],
    ).fetchone()
    return None if row is None else OwnCluster(*row)


def label(tx: Transaction, cluster_id: int, name: DomainName) -> None:
    """Note the name that Deltadex found for a cluster, and what it rests on; one that a person gave stays."""
    terms = [(term.text, term.origin, term.members, term.weight) for term in name.terms]
    tx.execute(
        "update clusters set label = %s, label_origin = %s, terms = %s where id = %s",
        [name.text, name.origin, Jsonb(terms), cluster_id],
    )


def _terms(listed: Sequence[tuple[str, str, int, float]]) -> tuple[Term, ...]:
    return tuple(Term(text, Origin(origin), members, weight) for text, origin, members, weight in listed)


def rename(tx: Transaction, registry: str, cluster_id: int, name: str | None, *, by: str) -> None:
    """Give a cluster a name that later runs keep; None or blank: take back the one that was given.

    Whether that person may is `deltadex.clustering.rename`'s to say.

    Raises
    ------
    StoreError
        The registry has no such cluster, or another one of its recipe was given this name.
    """
    given = (name or "").strip() or None
    if tx.execute("select rename_cluster(%s, %s, %s, %s)", [cluster_id, registry, given, by]).fetchone() == (None,):
        known = tx.execute("select 1 from clusters where id = %s and registry = %s", [cluster_id, registry]).fetchone()
        message = f"Another cluster is named {given!r}" if known else f"There is no cluster with id {cluster_id}"
        raise StoreError(message, hint="`deltadex clusters` lists them with their ids.")


def members(tx: Transaction, cluster_id: int) -> list[int]:
    """Return the versions of a cluster; deleted ones are among them."""
    found = tx.execute(
        "select model_version_id from cluster_assignments where cluster_id = %s order by 1", [cluster_id]
    )
    return [version_id for (version_id,) in found]


def centres(tx: Transaction, recipe_id: int, registry: str) -> dict[int, FloatArray]:
    """Return the mean of each cluster's unit vectors, `(dimension,)` float32, by its id.

    A unit vector's scalar product with it is its mean cosine similarity with the members.
    """
    found = tx.execute(
        "select id, centre from clusters where recipe_id = %s and registry = %s order by number",
        [recipe_id, registry],
        binary=True,
    )
    return {cluster_id: centre.to_numpy() for cluster_id, centre in found}
