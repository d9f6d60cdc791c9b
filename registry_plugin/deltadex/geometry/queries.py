"""Stored geometry: the latest measurement of each recipe and registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from deltadex.store.database import Transaction


@dataclass(frozen=True)
class GeometryRow:
    """A measurement.

    Attributes
    ----------
    method
        Seed and thresholds.
    versions
        Number of embeddings that were read.
    found
        The result, as JSON.
    found_at
        Time at which they were read.
    """

    method: Mapping[str, Any]
    versions: int
    found: Mapping[str, Any]
    found_at: datetime


def latest(tx: Transaction, recipe_id: int, registry: str) -> GeometryRow | None:
    """Return the latest measurement; None if there is none."""
    row = tx.execute(
        "select method, versions, found, found_at from geometries where recipe_id = %s and registry = %s",
        [recipe_id, registry],
    ).fetchone()
    return None if row is None else GeometryRow(*row)


def replace(tx: Transaction, recipe_id: int, registry: str, row: GeometryRow) -> None:
    """Store a measurement; it replaces the latest one."""
    tx.execute(
        """
        insert into geometries as known (recipe_id, registry, method, versions, found, found_at)
        values (%s, %s, %s, %s, %s, %s)
        on conflict (recipe_id, registry) do update set
            method = excluded.method, versions = excluded.versions, found = excluded.found,
            found_at = excluded.found_at, revision = known.revision + 1
        """,
        [recipe_id, registry, Jsonb(dict(row.method)), row.versions, Jsonb(dict(row.found)), row.found_at],
    )
