"""Queries of findings about versions and pairs of versions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.store.database import Transaction
from deltadex.types import Finding, FindingKind, ModelVersionRef, VersionRow
from deltadex.versions.queries import by_ids


@dataclass(frozen=True)
class FindingRow:
    """A stored finding with its versions; `other` is the older version of a pair."""

    id: int
    finding: Finding
    version: VersionRow
    other: VersionRow | None
    found_at: datetime


def replace(
    tx: Transaction,
    findings: Sequence[Finding],
    *,
    version_id: int,
    recipe_id: int | None,
    kinds: Collection[FindingKind],
) -> None:
    """Replace the findings of these kinds that involve a version, as either side of a pair.

    Findings that stay keep their id and the time at which they were found; those under an earlier recipe are deleted.
    Findings about groups are left to `duplicates.regroup`.
    """
    _keep_only(
        tx,
        findings,
        "kind = any(%(kinds)s) and (model_version_id = %(id)s or other_id = %(id)s) and not evidence ? 'members'",
        {"kinds": list(kinds), "id": version_id},
    )
    _upsert(tx, findings, recipe_id)


def replace_drift(tx: Transaction, findings: Sequence[Finding], *, ref: ModelVersionRef, recipe_id: int) -> None:
    """Replace the drift findings of one registered model under one recipe.

    All are replaced because versions are embedded in any order, and each changes which versions are consecutive.
    """
    _keep_only(
        tx,
        findings,
        """
        kind = 'drift' and recipe_id = %(recipe_id)s and model_version_id in (
            select id from model_versions where registry = %(registry)s and name = %(name)s)
        """,
        {"recipe_id": recipe_id, "registry": ref.registry, "name": ref.name},
    )
    _upsert(tx, findings, recipe_id)


def replace_of_versions(
    tx: Transaction,
    findings: Sequence[Finding],
    *,
    version_ids: Collection[int],
    recipe_id: int,
    kinds: Collection[FindingKind],
) -> None:
    """Replace the findings of these kinds about these versions, except where they are the older one of a pair."""
    _keep_only(
        tx,
        findings,
        "kind = any(%(kinds)s) and model_version_id = any(%(ids)s)",
        {"kinds": list(kinds), "ids": list(version_ids)},
    )
    _upsert(tx, findings, recipe_id)


def forget_recipe(tx: Transaction, recipe_id: int, *, version_id: int, kept: Collection[FindingKind]) -> None:
    """Delete the findings under a recipe that involve a version, except those of some kinds, and those about groups.

    The version is no longer embedded by it.
    """
    _keep_only(
        tx,
        [],
        """
        recipe_id = %(recipe_id)s and (model_version_id = %(id)s or other_id = %(id)s) and kind <> all(%(kept)s)
            and not evidence ? 'members'
        """,
        {"recipe_id": recipe_id, "id": version_id, "kept": list(kept)},
    )


def listing(
    tx: Transaction, registry: str, *, kinds: Collection[FindingKind] | None = None, version_id: int | None = None
) -> list[FindingRow]:
    """Return findings about versions and pairs, newest first, without those about a deleted version.

    Parameters
    ----------
    kinds
        Only these kinds; None for all.
    version_id
        Only findings that involve this version, as either side of a pair.
    """
    found = tx.execute(
        """
        select findings.id, kind, model_version_id, other_id, measure, threshold, evidence, found_at
        from findings
        join model_versions version on version.id = model_version_id
        left join model_versions other on other.id = other_id
        where version.registry = %(registry)s and kind = any(%(kinds)s)
            and version.state <> 'deleted' and other.state is distinct from 'deleted' and not evidence ? 'members'
            and (%(id)s::bigint is null or model_version_id = %(id)s or other_id = %(id)s)
        order by found_at desc, findings.id desc
        """,
        {"registry": registry, "kinds": list(FindingKind if kinds is None else kinds), "id": version_id},
    ).fetchall()
    rows = by_ids(tx, sorted({row_id for values in found for row_id in values[2:4] if row_id is not None}))
    return [
        FindingRow(finding_id, Finding(FindingKind(kind), *values), rows[values[0]], rows.get(values[1]), found_at)
        for finding_id, kind, *values, found_at in found
    ]


def _keep_only(
    tx: Transaction, findings: Sequence[Finding], scope: LiteralString, parameters: dict[str, object]
) -> None:
    """Delete the findings within a scope, a SQL condition, that are not among these."""
    kept = {
        "kept_kinds": [finding.kind for finding in findings],
        "kept_ids": [finding.version_id for finding in findings],
        "kept_others": [finding.other_id for finding in findings],
    }
    query = SQL(
        """
        delete from findings where {} and not exists (
            select from unnest(%(kept_kinds)s::text[], %(kept_ids)s::bigint[], %(kept_others)s::bigint[])
                as kept (kind, version_id, other_id)
            where kept.kind = findings.kind and kept.version_id = findings.model_version_id
                and kept.other_id is not distinct from findings.other_id)
        -- What was found about a version that is gone stays as it was.
        and not exists (
            select from model_versions where id in (model_version_id, other_id) and state = 'deleted')
        """
    ).format(SQL(scope))
    tx.execute(query, parameters | kept)


def _upsert(tx: Transaction, findings: Sequence[Finding], recipe_id: int | None) -> None:
    with tx.cursor() as cursor:
        cursor.executemany(
            """
            insert into findings as known (
                kind, model_version_id, other_id, recipe_id, measure, threshold, evidence)
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (kind, model_version_id, other_id) do update set
                recipe_id = excluded.recipe_id, measure = excluded.measure,
                threshold = excluded.threshold, evidence = excluded.evidence, measured_at = now()
            """,
            [
                (
                    finding.kind,
                    finding.version_id,
                    finding.other_id,
                    recipe_id,
                    finding.measure,
                    finding.threshold,
                    Jsonb(dict(finding.evidence)),
                )
                for finding in findings
            ],
        )
