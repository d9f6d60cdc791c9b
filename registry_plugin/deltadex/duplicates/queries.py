"""Queries of the comparison of all versions: export of vectors, and replacement of the findings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import numpy as np
from psycopg.sql import SQL, Composed, Identifier
from psycopg.types.json import Jsonb

from deltadex.duplicates.all_pairs import MEMBER, Members
from deltadex.findings.calibration import Calibration, Threshold
from deltadex.store.database import Transaction
from deltadex.types import FindingKind

_FETCHED_ROWS = 512
#: A version takes part under its latest recipe only, as on its arrival.
_COMPARED: LiteralString = """
    comparable_embeddings compared
    where recipe_id = %(recipe_id)s and registry = %(registry)s and not exists (
        select from current_embeddings later where later.model_version_id = compared.model_version_id
            and (later.current_since, later.recipe_id) > (compared.current_since, compared.recipe_id))
"""
_OLDEST_FIRST: LiteralString = 'order by created_ms, name collate "C", version'
_STORED_US: LiteralString = "(extract(epoch from compared.created_at) * 1000000)::bigint"

#: Models and weights are numbered, to compare them quickly.
_MEMBER: LiteralString = """
    model_version_id, {}, dense_rank() over (order by name), dense_rank() over (order by weights_digest), norm
"""

_MEMBERS: LiteralString = """
    create temporary table members (id bigint primary key, stored_us bigint not null) on commit drop
"""
_PAIRS: LiteralString = """
    create temporary table {pairs} (
        older bigint, newer bigint, similarity float8 not null, norm_ratio float8 not null, primary key (older, newer)
    ) on commit drop
"""
_KEEP_UNCHANGED: LiteralString = """
    delete from members where (id, stored_us) not in (select model_version_id, {stored_us} from {compared})
"""
#: The digests of a merge and its adapter differ: only their finding identifies them.
_KEEP_COMPARABLE: LiteralString = """
    delete from {pairs}
    where not exists (select from members where id = older) or not exists (select from members where id = newer)
        or exists (
            select from findings where kind = 'exact_duplicate' and model_version_id = newer and other_id = older)
"""
_REMOVE_NEAR: LiteralString = """
    delete from findings
    where kind = 'near_duplicate' and recipe_id = %(recipe_id)s
        and model_version_id in (select id from members) and other_id in (select id from members)
        and not exists (select from near where older = other_id and newer = model_version_id)
"""
#: Findings of any recipe, since a version takes part under one only. Versions that came or changed since the members
#: were read are left to the next round; findings about deleted versions stay.
_REMOVE_TASKS: LiteralString = """
    with compared as (select model_version_id as id from {compared})
    delete from findings using model_versions one, model_versions other
    where kind = 'same_task' and one.id = model_version_id and other.id = other_id and one.registry = %(registry)s
        and one.state <> 'deleted' and other.state <> 'deleted'
        and (recipe_id = %(recipe_id)s or exists (select from members where id in (model_version_id, other_id)))
        and not exists (select from tasks where older = other_id and newer = model_version_id)
        and not exists (
            select from compared where id in (model_version_id, other_id) and id not in (select id from members))
"""
#: Similarities that differ only by rounding count as equal.
_UPSERT: LiteralString = """
    insert into findings as known (kind, model_version_id, other_id, recipe_id, measure, threshold, evidence)
    select %(kind)s, newer, older, %(recipe_id)s, similarity, %(threshold)s,
        %(evidence)s::jsonb || jsonb_build_object('norm_ratio', norm_ratio)
    from {pairs} order by newer, older
    on conflict (kind, model_version_id, other_id) do update set
        recipe_id = excluded.recipe_id, measure = excluded.measure, threshold = excluded.threshold,
        evidence = excluded.evidence, measured_at = now()
    where (known.recipe_id, known.threshold) is distinct from (excluded.recipe_id, excluded.threshold)
        or abs(known.measure - excluded.measure) > 1e-6
"""

#: Id of the older version, id of the newer version, cosine similarity, norm ratio.
IdPairs = Iterable[tuple[int, int, float, float]]


@dataclass(frozen=True)
class Replaced:
    """Result of replacing the near duplicates of one recipe.

    Attributes
    ----------
    versions
        Number of compared versions whose embedding has not changed since.
    pairs, changed, removed
        Number of all pairs, of new or changed pairs, and of removed pairs.
    """

    versions: int
    pairs: int
    changed: int
    removed: int


def export(
    tx: Transaction, recipe_id: int, registry: str, *, path: Path, on_progress: Callable[[int, int], None]
) -> Members:
    """Write a recipe's vectors to a `(n, dimension)` float32 `.npy` file; return their versions, oldest first.

    Must be the first call in its transaction: it sets the isolation level, since it reads twice.
    """
    tx.execute("set transaction isolation level repeatable read")
    recipe = {"recipe_id": recipe_id, "registry": registry}
    query = SQL("select {} from {} {}").format(SQL(_MEMBER).format(SQL(_STORED_US)), SQL(_COMPARED), SQL(_OLDEST_FIRST))
    members = np.array(tx.execute(query, recipe).fetchall(), dtype=MEMBER)
    row = tx.execute("select dimension from recipes where id = %s", [recipe_id]).fetchone()
    shape = (len(members), row[0] if row else 0)
    with tx.cursor("vectors", binary=True) as cursor, path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        cursor.itersize = _FETCHED_ROWS
        cursor.execute(SQL("select vector from {} {}").format(SQL(_COMPARED), SQL(_OLDEST_FIRST)), recipe)
        for number, (vector,) in enumerate(cursor, start=1):
            file.write(vector.to_numpy().astype("<f4").tobytes())
            if number % _FETCHED_ROWS == 0:
                on_progress(number, len(members))
        file.flush()
        os.fsync(file.fileno())
    return members


def lock_and_stage_members(tx: Transaction, recipe_id: int, registry: str, members: Members) -> None:
    """Lock the recipe until the transaction ends, and stage the members whose embedding is unchanged since the export.

    The others keep their findings: they were compared on arrival.
    """
    # The lock that is taken when a version is stored: of two duplicates, the second sees the first.
    tx.execute(
        "select pg_advisory_xact_lock(hashtextextended('recipe:' || digest, 0)) from recipes where id = %s",
        [recipe_id],
    )
    tx.execute(_MEMBERS)
    _copy(tx, SQL("copy members from stdin (format binary)"), ["int8"] * 2, members[["id", "stored_us"]].tolist())
    tx.execute("analyze members")
    unchanged = SQL(_KEEP_UNCHANGED).format(stored_us=SQL(_STORED_US), compared=SQL(_COMPARED))
    tx.execute(unchanged, {"recipe_id": recipe_id, "registry": registry})


def replace_near(tx: Transaction, recipe_id: int, pairs: IdPairs, *, calibration: Calibration) -> Replaced:
    """Replace the near duplicates among the members staged by `lock_and_stage_members`; merges are left out."""
    _stage(tx, "near", pairs)
    removed = tx.execute(_REMOVE_NEAR, {"recipe_id": recipe_id}).rowcount
    lowest = {"lowest_norm_ratio": calibration.near_norm_ratio.value}
    limit = calibration.near_similarity
    changed = _upsert(tx, "near", FindingKind.NEAR_DUPLICATE, limit, recipe_id=recipe_id, evidence=lowest)
    counted = tx.execute("select (select count(*) from members), (select count(*) from near)").fetchone()
    assert counted is not None  # noqa: S101 - a select without a table has one row
    return Replaced(versions=counted[0], pairs=counted[1], changed=changed, removed=removed)


def replace_same_task(
    tx: Transaction, recipe_id: int, registry: str, tasks: IdPairs, *, calibration: Calibration
) -> None:
    """Replace the same-task findings of a recipe; pairs that are merges are left out.

    Replaced are those of the members staged by `lock_and_stage_members` and of versions that no longer take part.
    """
    _stage(tx, "tasks", tasks)
    where = {"recipe_id": recipe_id, "registry": registry}
    tx.execute(SQL(_REMOVE_TASKS).format(compared=SQL(_COMPARED)), where)
    _upsert(tx, "tasks", FindingKind.SAME_TASK, calibration.same_task, recipe_id=recipe_id, evidence={})


def _stage(tx: Transaction, name: LiteralString, pairs: IdPairs) -> None:
    table = Identifier(name)
    tx.execute(SQL(_PAIRS).format(pairs=table))
    _copy(tx, SQL("copy {} from stdin (format binary)").format(table), ["int8", "int8", "float8", "float8"], pairs)
    tx.execute(SQL("analyze {}").format(table))
    tx.execute(SQL(_KEEP_COMPARABLE).format(pairs=table))


def _upsert(
    tx: Transaction,
    table: LiteralString,
    kind: FindingKind,
    limit: Threshold,
    *,
    recipe_id: int,
    evidence: Mapping[str, object],
) -> int:
    parameters = {
        "kind": kind,
        "recipe_id": recipe_id,
        "threshold": limit.value,
        "evidence": Jsonb({"threshold_from": limit.note, **evidence}),
    }
    return tx.execute(SQL(_UPSERT).format(pairs=Identifier(table)), parameters).rowcount


def _copy(tx: Transaction, statement: SQL | Composed, types: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with tx.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
