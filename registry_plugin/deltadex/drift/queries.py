"""Queries of the embedded versions of registered models, in order of registration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import LiteralString

import numpy as np
from pgvector import HalfVector
from psycopg.sql import SQL

from deltadex.drift.line import PlacedVersion, Point
from deltadex.store.database import Transaction
from deltadex.types import FloatArray, ModelVersionRef, VersionRow
from deltadex.versions.queries import by_ids


@dataclass(frozen=True, eq=False)
class History:
    """The embedded versions of one registered model, oldest first.

    Attributes
    ----------
    points
        Embeddings, parallel to `versions`.
    too_weak
        Versions that cannot be placed under any recipe.
    """

    name: str
    versions: tuple[VersionRow, ...]
    points: tuple[Point, ...]
    too_weak: tuple[VersionRow, ...]


#: The newer of two versions of one model that differ by rounding only: it is the same model again.
_IS_NO_COPY: LiteralString = """
    not exists (
        select from quantized_copies copy join model_versions original on original.id = other_id
        where copy.model_version_id = embedded.model_version_id
            and (original.registry, original.name) = (embedded.registry, embedded.name) and original.state <> 'deleted')
"""


def history(tx: Transaction, registry: str, name: str, *, copies: Collection[int] = ()) -> History:
    """Return the embedded versions of one registered model, without quantized copies of its other versions.

    Parameters
    ----------
    copies
        Further copies, whose findings are not stored yet.
    """
    found = tx.execute(
        SQL(
            """
            with embedded as (
                select current_embeddings.*, registry, name
                from current_embeddings join model_versions on id = model_version_id
                where registry = %s and name = %s and state <> 'deleted' and id <> all(%s)
            )
            select model_version_id, recipe_id, has_direction, vector, coalesce(norm / nullif(base_norm, 0), 0),
                probe_deltas
            from embedded where {}
            """
        ).format(SQL(_IS_NO_COPY)),
        [registry, name, list(copies)],
        binary=True,
    ).fetchall()
    points: dict[int, dict[int, PlacedVersion]] = {}
    for version_id, recipe_id, has_direction, vector, strength, probes in found:
        point = points.setdefault(version_id, {})
        if has_direction:
            point[recipe_id] = PlacedVersion(vector.to_numpy(), strength, _stacked(probes))
    rows = sorted(by_ids(tx, list(points)).values(), key=lambda row: row.registered.ref.age)
    placed = tuple(row for row in rows if points[row.id])
    weak = tuple(row for row in rows if not points[row.id])
    return History(name, placed, tuple(points[row.id] for row in placed), weak)


def models_with_steps(tx: Transaction, recipe_id: int, registry: str) -> list[ModelVersionRef]:
    """Return the latest version of each model that has several versions under a recipe."""
    found = tx.execute(
        """
        select distinct on (name) registry, name, version, created_ms
        from comparable_embeddings embedded where recipe_id = %(recipe_id)s and registry = %(registry)s
            and name in (
                select name from comparable_embeddings where recipe_id = %(recipe_id)s and registry = %(registry)s
                group by name having count(*) > 1)
        order by name, created_ms desc, version desc
        """,
        {"recipe_id": recipe_id, "registry": registry},
    )
    return [ModelVersionRef(*values) for values in found]


@dataclass(frozen=True)
class Line:
    """Summary of one registered model's drift, over the versions that can be placed.

    Attributes
    ----------
    base_name
        Base of the last move; empty if no consecutive versions share a recipe.
    compared, broken
        Number of steps between versions with a common recipe, and of steps without one.
    largest_step
        Largest cosine distance of a step; 0 if none can be compared.
    changes
        Number of drift findings.
    """

    name: str
    base_name: str
    versions: int
    compared: int
    broken: int
    largest_step: float
    changes: int


def lines(tx: Transaction, registry: str) -> list[Line]:
    """Return the models with at least two versions that can be placed, by descending largest step."""
    found = tx.execute(
        SQL(
            """
        with points as materialized (
            select name, recipe_id, vector, dense_rank() over (partition by name order by created_ms, version) as place
            from comparable_embeddings embedded where registry = %(registry)s and {}
        ), steps as (
            select distinct on (later.name, later.place) later.name, later.place, recipe_id,
                -- The squares of very large numbers leave float32.
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
        """
        ).format(SQL(_IS_NO_COPY)),
        {"registry": registry},
    )
    return [Line(*values) for values in found]


def measured(tx: Transaction, recipe_id: int, ids: Collection[int]) -> dict[int, PlacedVersion]:
    """Return the embeddings of versions under one recipe, with the probes, by id; weak versions are left out."""
    found = tx.execute(
        """
        select model_version_id, vector, coalesce(norm / nullif(base_norm, 0), 0), probe_deltas
        from current_embeddings where recipe_id = %s and model_version_id = any(%s) and has_direction
        """,
        [recipe_id, list(ids)],
        binary=True,
    )
    return {
        version_id: PlacedVersion(vector.to_numpy(), strength, _stacked(probes))
        for version_id, vector, strength, probes in found
    }


def _stacked(probes: Sequence[HalfVector] | None) -> FloatArray | None:
    return None if probes is None else np.array([probe.to_numpy() for probe in probes], dtype=np.float32)
