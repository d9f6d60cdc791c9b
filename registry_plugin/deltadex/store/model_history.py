"""The versions of registered models as points on a line: every embedding that each has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from pgvector import HalfVector

from deltadex.analysis.drift import Measured, Point
from deltadex.domain import FloatArray, VersionRow
from deltadex.store.database import Transaction
from deltadex.store.versions import by_ids


@dataclass(frozen=True, eq=False)
class History:
    """The embedded versions of one registered model, oldest first.

    Attributes
    ----------
    points
        Parallel to `versions`.
    too_weak
        Versions that can't be placed under any recipe.
    """

    name: str
    versions: tuple[VersionRow, ...]
    points: tuple[Point, ...]
    too_weak: tuple[VersionRow, ...]


def history(tx: Transaction, registry: str, name: str) -> History:
    """Return the embedded versions of one registered model."""
    found = tx.execute(
        """
        select id, recipe_id, is_weak, vector, coalesce(norm / nullif(base_norm, 0), 0), probe_deltas
        from current_embeddings join model_versions on id = model_version_id
        where registry = %s and name = %s and state <> 'deleted'
        """,
        [registry, name],
        binary=True,
    ).fetchall()
    points: dict[int, dict[int, Measured]] = {}
    for version_id, recipe_id, is_weak, vector, strength, probes in found:
        point = points.setdefault(version_id, {})
        if not is_weak:
            point[recipe_id] = Measured(vector.to_numpy(), strength, _stacked(probes))
    rows = sorted(by_ids(tx, list(points)).values(), key=lambda row: row.registered.ref.age)
    placed = tuple(row for row in rows if points[row.id])
    weak = tuple(row for row in rows if not points[row.id])
    return History(name, placed, tuple(points[row.id] for row in placed), weak)


@dataclass(frozen=True)
class Line:
    """How far one registered model moved, from version to version that can be placed.

    Attributes
    ----------
    base_name
        The base of the last move; empty where no two consecutive versions share a recipe.
    compared, broken
        How many steps lead to a version that shares a recipe with the one before, and how many don't.
    largest_step
        Cosine distance; 0 where none can be compared.
    changes
        How many drift findings there are.
    """

    name: str
    base_name: str
    versions: int
    compared: int
    broken: int
    largest_step: float
    changes: int


def lines(tx: Transaction, registry: str) -> list[Line]:
    """Return the models with two or more versions to place, the one with the largest step first."""
    found = tx.execute(
        """
        with points as materialized (
            select name, recipe_id, vector, dense_rank() over (partition by name order by created_ms, version) as place
            from current_embeddings join model_versions on id = model_version_id
            where registry = %(registry)s and state <> 'deleted' and not is_weak
        ), steps as (
            select distinct on (later.name, later.place) later.name, later.place, recipe_id,
                -- As far as that of a zero vector is one.
                coalesce(nullif(earlier.vector <=> later.vector, 'NaN'), 1) as distance
            from points earlier join points later using (name, recipe_id)
            where earlier.place = later.place - 1 order by later.name, later.place, recipe_id desc
        ), moved as (
            select name, count(*) as compared, max(distance) as largest,
                (array_agg(base_name order by place desc))[1] as base_name
            from steps join recipes on recipes.id = recipe_id group by name
        ), drifted as (
            select name, count(*) as changes from findings join model_versions on model_versions.id = model_version_id
            where kind = 'drift' and registry = %(registry)s and state <> 'deleted' group by name
        )
        select name, coalesce(base_name, ''), versions, coalesce(compared, 0), versions - 1 - coalesce(compared, 0),
            coalesce(largest, 0), coalesce(changes, 0)
        from (select name, max(place) as versions from points group by name having max(place) > 1) several
        left join moved using (name) left join drifted using (name)
        order by largest desc nulls last, name
        """,
        {"registry": registry},
    )
    return [Line(*values) for values in found]


def measured(tx: Transaction, recipe_id: int, ids: Collection[int]) -> dict[int, Measured]:
    """Return what versions are under one recipe, with what each probe says, by id; weak ones are left out."""
    found = tx.execute(
        """
        select model_version_id, vector, coalesce(norm / nullif(base_norm, 0), 0), probe_deltas
        from current_embeddings where recipe_id = %s and model_version_id = any(%s) and not is_weak
        """,
        [recipe_id, list(ids)],
        binary=True,
    )
    return {
        version_id: Measured(vector.to_numpy(), strength, _stacked(probes))
        for version_id, vector, strength, probes in found
    }


def _stacked(probes: Sequence[HalfVector] | None) -> FloatArray | None:
    return None if probes is None else np.array([probe.to_numpy() for probe in probes], dtype=np.float32)
