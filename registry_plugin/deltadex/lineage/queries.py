"""SQL of the versions that one version is related to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deltadex.store.database import Transaction
from deltadex.types import BASE_TAG, FindingKind


@dataclass(frozen=True)
class MeasuredPair:
    """A finding about two versions, the newer first; `is_equal` says that their weights have one digest."""

    kind: FindingKind
    newer: int
    older: int
    similarity: float | None
    evidence: Mapping[str, object]
    is_equal: bool


def declared_base(tx: Transaction, version_id: int) -> str:
    """Return the base that a version declares by its tag or its files, or was embedded with; empty if none is known."""
    row = tx.execute(
        """
        select coalesce(nullif(tags ->> %s, ''), declared_base, (
            select base_name from current_embeddings join recipes on recipes.id = recipe_id
            where model_version_id = model_versions.id order by current_since desc limit 1), '')
        from model_versions where id = %s
        """,
        [BASE_TAG, version_id],
    ).fetchone()
    return str(row[0]) if row else ""


def copies(tx: Transaction, version_id: int) -> list[tuple[int, int]]:
    """Return original and copy of each copy within the registry that the version is part of."""
    return tx.execute(
        """
        select original.id, copy.id from model_versions original
        join model_versions copy on copy.registry = original.registry and copy.state <> 'deleted'
            and copy.source = format('models:/%%s/%%s', original.name, original.version)
        where %(id)s in (original.id, copy.id) and original.state <> 'deleted' order by copy.id
        """,
        {"id": version_id},
    ).fetchall()


def next_to(tx: Transaction, version_id: int) -> list[tuple[int, int]]:
    """Return older and newer version of the steps of its registered model to and from the version."""
    return tx.execute(
        """
        select before, after from (
            select lag(id) over (order by version) as before, id as after from model_versions
            where state <> 'deleted'
                and (registry, name) = (select registry, name from model_versions where id = %(id)s)) as steps
        where before is not null and %(id)s in (before, after) order by after
        """,
        {"id": version_id},
    ).fetchall()


def measured(tx: Transaction, version_id: int, *, limit: int) -> list[MeasuredPair]:
    """Return the duplicates of a version among the current findings, exact ones first and then the most similar."""
    found = tx.execute(
        """
        select kind, model_version_id, other_id, measure, evidence,
            coalesce(newer.weights_digest = older.weights_digest, false)
        from findings
        join model_versions newer on newer.id = model_version_id
        join model_versions older on older.id = other_id
        where %(id)s in (model_version_id, other_id) and kind in ('exact_duplicate', 'near_duplicate')
            and newer.state <> 'deleted' and older.state <> 'deleted'
        order by kind, measure desc, findings.id limit %(limit)s
        """,
        {"id": version_id, "limit": limit},
    )
    return [MeasuredPair(FindingKind(kind), *values) for kind, *values in found]
