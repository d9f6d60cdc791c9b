"""Queries of a clustering run: its input, and storage of its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import LiteralString

import numpy as np
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.clusters.queries import ClusterRun
from deltadex.store.database import Transaction
from deltadex.types import FloatArray

#: Versions that take part.
_COMPARED: LiteralString = """
    comparable_embeddings compared {}
    where compared.recipe_id = %(recipe_id)s and compared.registry = %(registry)s
"""
_CODES: LiteralString = "join codes using (recipe_id, model_version_id)"
_FETCHED_ROWS = 512


@dataclass(frozen=True)
class FoundCluster:
    """One cluster of a new run.

    Attributes
    ----------
    continues
        Id of the cluster that it continues; None for a new one.
    strengths
        Strengths of its members, by version id.
    """

    continues: int | None
    strengths: Mapping[int, float]


@dataclass(frozen=True)
class Changes:
    """Number of versions that a run would compare now, and how many came, went or changed since the latest run."""

    compared: int
    changed: int


def compared(tx: Transaction, recipe_id: int, registry: str) -> list[int]:
    """Return the ids of the versions that take part."""
    query = SQL("select model_version_id from {} order by 1").format(SQL(_COMPARED).format(SQL("")))
    return [version_id for (version_id,) in tx.execute(query, {"recipe_id": recipe_id, "registry": registry})]


def vectors(tx: Transaction, recipe_id: int, registry: str, *, as_codes: bool = False) -> tuple[list[int], FloatArray]:
    """Return the ids of the versions that take part and their vectors, `(n, dimension)` float32.

    Parameters
    ----------
    as_codes
        Return their shorter codes instead; see `deltadex.embeddings.codes`.
    """
    column, joined = (SQL("code::vector"), SQL(_CODES)) if as_codes else (SQL("vector"), SQL(""))
    query = SQL("select model_version_id, {} from {} order by 1").format(column, SQL(_COMPARED).format(joined))
    ids: list[int] = []
    rows: list[FloatArray] = []
    with tx.cursor("compared", binary=True) as cursor:
        cursor.itersize = _FETCHED_ROWS
        for version_id, vector in cursor.execute(query, {"recipe_id": recipe_id, "registry": registry}):
            ids.append(version_id)
            rows.append(vector.to_numpy())
    return ids, np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)


def changes(tx: Transaction, recipe_id: int, registry: str) -> Changes:
    """Compare the versions that take part now with those of the latest run."""
    row = tx.execute(
        SQL(
            """
            with now_compared as (select model_version_id as id, current_since from {}),
            placed as (
                select model_version_id as id from cluster_assignments join model_versions on id = model_version_id
                where recipe_id = %(recipe_id)s and registry = %(registry)s)
            select count(now_compared.id), count(*) filter (
                where placed.id is null or now_compared.id is null or current_since > (
                    select found_at from cluster_runs where recipe_id = %(recipe_id)s and registry = %(registry)s))
            from now_compared full join placed using (id)
            """
        ).format(SQL(_COMPARED).format(SQL(""))),
        {"recipe_id": recipe_id, "registry": registry},
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Changes(*row)


def replace(
    tx: Transaction,
    recipe_id: int,
    registry: str,
    *,
    run: ClusterRun,
    found: Sequence[FoundCluster],
    alone: Iterable[int],
) -> list[int]:
    """Replace the latest run and return the ids of the new clusters, parallel to `found`.

    Clusters that no new cluster continues are deleted, with their given names.

    Parameters
    ----------
    alone
        Ids of the compared versions in no cluster.
    """
    where = {"recipe_id": recipe_id, "registry": registry}
    tx.execute(
        """
        delete from cluster_assignments using model_versions
        where id = model_version_id and recipe_id = %(recipe_id)s and registry = %(registry)s
        """,
        where,
    )
    kept = [cluster.continues for cluster in found if cluster.continues is not None]
    tx.execute(
        "delete from clusters where recipe_id = %(recipe_id)s and registry = %(registry)s and not id = any(%(kept)s)",
        {**where, "kept": kept},
    )
    ids = _numbered(tx, where, found)
    _place(tx, recipe_id, ids, found, alone)
    tx.execute(SQL(_CENTRES), where)
    tx.execute(
        """
        insert into cluster_runs as known (recipe_id, registry, method, cut, silhouette, note, found_at)
        values (%(recipe_id)s, %(registry)s, %(method)s, %(cut)s, %(silhouette)s, %(note)s, %(found_at)s)
        on conflict (recipe_id, registry) do update set
            method = excluded.method, cut = excluded.cut, silhouette = excluded.silhouette, note = excluded.note,
            found_at = excluded.found_at, revision = known.revision + 1
        """,
        {**where, **vars(run), "method": Jsonb(dict(run.method))},
    )
    return ids


#: Computed in the database, so that the full vectors of a large recipe need not be read.
_CENTRES: LiteralString = """
    update clusters set centre = mean
    from (
        select cluster_id, avg(l2_normalize(vector)) as mean
        from cluster_assignments join current_embeddings using (recipe_id, model_version_id)
        where recipe_id = %(recipe_id)s and cluster_id is not null group by cluster_id
    ) as means
    where cluster_id = id and registry = %(registry)s
"""


def _numbered(tx: Transaction, where: Mapping[str, object], found: Sequence[FoundCluster]) -> list[int]:
    """Insert the new clusters; return the ids of all found clusters."""
    taken = {
        number
        for (number,) in tx.execute(
            "select number from clusters where recipe_id = %(recipe_id)s and registry = %(registry)s", where
        )
    }
    free = (number for number in count() if number not in taken)
    ids = []
    for cluster in found:
        if cluster.continues is None:
            row = tx.execute(
                """
                insert into clusters (recipe_id, registry, number)
                values (%(recipe_id)s, %(registry)s, %(number)s) returning id
                """,
                {**where, "number": next(free)},
            ).fetchone()
            assert row is not None  # noqa: S101 - an insert without a condition returns its row
            ids.append(int(row[0]))
        else:
            ids.append(cluster.continues)
    return ids


def _place(
    tx: Transaction, recipe_id: int, ids: Sequence[int], found: Sequence[FoundCluster], alone: Iterable[int]
) -> None:
    columns = SQL("copy cluster_assignments (recipe_id, model_version_id, cluster_id, strength) from stdin")
    with tx.cursor() as cursor, cursor.copy(columns) as copy:
        for cluster_id, cluster in zip(ids, found, strict=True):
            for version_id, strength in cluster.strengths.items():
                copy.write_row([recipe_id, version_id, cluster_id, strength])
        for version_id in alone:
            copy.write_row([recipe_id, version_id, None, None])
