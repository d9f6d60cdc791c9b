"""What one recipe compares, out into a file, and all near duplicates among it, back into the findings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from deltadex.analysis.calibration import Calibration, Threshold
from deltadex.domain import FindingKind
from deltadex.store.database import Transaction

#: A version, when its embedding was stored, in microseconds, by which one sees that it is still the same, and a number
#: for its registered model.
MEMBER = np.dtype([("id", np.int64), ("stored_us", np.int64), ("model", np.int64)])
Members = NDArray[Any]

_FETCHED_ROWS = 512
#: A version takes part under its latest recipe only, as it was compared when it arrived.
_COMPARED: LiteralString = """
    current_embeddings embeddings join model_versions on id = model_version_id
    where recipe_id = %(recipe_id)s and registry = %(registry)s and state <> 'deleted' and not is_weak and norm > 0
        and not exists (
            select from current_embeddings later where later.model_version_id = id
                and (later.current_since, later.recipe_id) > (embeddings.current_since, embeddings.recipe_id))
"""
_OLDEST_FIRST: LiteralString = 'order by created_ms, name collate "C", version'
_STORED_US: LiteralString = "(extract(epoch from embeddings.created_at) * 1000000)::bigint"

_TEMPORARY: LiteralString = """
    create temporary table members (id bigint primary key, stored_us bigint not null, model bigint not null)
        on commit drop;
    create temporary table tasks (older bigint, newer bigint primary key, similarity float8 not null) on commit drop;
    create temporary table pairs (older bigint, newer bigint, similarity float8 not null, primary key (older, newer))
        on commit drop;
"""
_KEEP_UNCHANGED: LiteralString = """
    delete from members where (id, stored_us) not in (select id, {stored_us} from {compared})
"""
#: A merge and its adapter have other digests.
_IS_EXACT: LiteralString = """
    exists (select from findings where kind = 'exact_duplicate' and model_version_id = newer and other_id = older)
"""
_KEEP_NEAR: LiteralString = """
    delete from pairs using model_versions one, model_versions other
    where one.id = older and other.id = newer and (
        one.weights_digest = other.weights_digest or one.name = other.name or {is_exact}
        or not exists (select from members where id = older) or not exists (select from members where id = newer)
        or (select min(norm) / max(norm) from current_embeddings
            where recipe_id = %(recipe_id)s and model_version_id in (older, newer)) < %(norm_ratio)s)
"""
_REMOVE: LiteralString = """
    delete from findings
    where kind = 'near_duplicate' and recipe_id = %(recipe_id)s
        and model_version_id in (select id from members) and other_id in (select id from members)
        and not exists (select from pairs where older = other_id and newer = model_version_id)
"""
#: The closest older version is the task's first, unless it is a duplicate: that says it already.
_KEEP_TASKS: LiteralString = """
    delete from tasks using model_versions one, model_versions other
    where one.id = older and other.id = newer and (
        one.weights_digest = other.weights_digest or {is_exact}
        or not exists (select from members where id = older) or not exists (select from members where id = newer)
        or exists (select from pairs where pairs.older = tasks.older and pairs.newer = tasks.newer))
"""
_REMOVE_TASKS: LiteralString = """
    delete from findings
    where kind = 'same_task' and recipe_id = %(recipe_id)s and model_version_id in (select id from members)
        and not exists (select from tasks where older = other_id and newer = model_version_id)
"""
#: A similarity that differs by the rounding of another way to compute it is the same.
_UPSERT: LiteralString = """
    insert into findings as known (kind, model_version_id, other_id, recipe_id, measure, threshold, evidence)
    select %(kind)s, newer, older, %(recipe_id)s, similarity, %(threshold)s,
        %(evidence)s::jsonb || jsonb_build_object('norm_ratio', (
            select min(norm) / max(norm) from current_embeddings
            where recipe_id = %(recipe_id)s and model_version_id in (older, newer)))
    from {pairs} order by newer, older
    on conflict (kind, model_version_id, other_id) do update set
        recipe_id = excluded.recipe_id, measure = excluded.measure, threshold = excluded.threshold,
        evidence = excluded.evidence
    where (known.recipe_id, known.threshold) is distinct from (excluded.recipe_id, excluded.threshold)
        or abs(known.measure - excluded.measure) > 1e-6
"""


@dataclass(frozen=True)
class Replaced:
    """What became of the near duplicates of one recipe.

    Those for the same task are made anew with them.

    Attributes
    ----------
    versions
        How many were compared and are still what they were.
    pairs, changed, removed
        How many pairs there are, came or changed, and went.
    """

    versions: int
    pairs: int
    changed: int
    removed: int


def export(
    tx: Transaction, recipe_id: int, registry: str, *, path: Path, on_progress: Callable[[int, int], None]
) -> Members:
    """Write the vectors that a recipe compares as a `(n, dimension)` float32 `.npy` file; return whose, oldest first.

    Must be the first in its transaction: it reads twice and must see the same.
    """
    tx.execute("set transaction isolation level repeatable read")
    recipe = {"recipe_id": recipe_id, "registry": registry}
    query = SQL("select id, {}, dense_rank() over (order by name) from {} {}").format(
        SQL(_STORED_US), SQL(_COMPARED), SQL(_OLDEST_FIRST)
    )
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


def replace(
    tx: Transaction,
    recipe_id: int,
    registry: str,
    *,
    members: Members,
    pairs: Iterable[tuple[int, int, float]],
    tasks: Iterable[tuple[int, int, float]],
    calibration: Calibration,
) -> Replaced:
    """Make the near duplicates among these members exactly these pairs, but for those with the same weights.

    Pairs of one registered model, and pairs whose norms differ by more than the calibration lets near duplicates, are
    left out. Members that were deleted, or embedded again, since they were exported keep the findings that they have;
    so do pairs with versions that came later. Both were compared with everything as they arrived.

    Parameters
    ----------
    pairs
        Older version's id, newer one's, and cosine similarity.
    tasks
        The same for each version and the closest older one of another model, where that is for the same task.
    """
    # As when a version is stored: of two duplicates, the second sees the first.
    tx.execute(
        "select pg_advisory_xact_lock(hashtextextended('recipe:' || digest, 0)) from recipes where id = %s",
        [recipe_id],
    )
    recipe = {"recipe_id": recipe_id, "registry": registry, "norm_ratio": calibration.near_norm_ratio.value}
    tx.execute(_TEMPORARY)
    _copy(tx, SQL("copy members from stdin (format binary)"), ["int8"] * 3, members.tolist())
    _copy(tx, SQL("copy pairs from stdin (format binary)"), ["int8", "int8", "float8"], pairs)
    _copy(tx, SQL("copy tasks from stdin (format binary)"), ["int8", "int8", "float8"], tasks)
    tx.execute("analyze members, pairs, tasks")
    tx.execute(SQL(_KEEP_UNCHANGED).format(stored_us=SQL(_STORED_US), compared=SQL(_COMPARED)), recipe)
    tx.execute(SQL(_KEEP_NEAR).format(is_exact=SQL(_IS_EXACT)), recipe)
    tx.execute(SQL(_KEEP_TASKS).format(is_exact=SQL(_IS_EXACT)))
    removed = tx.execute(_REMOVE, recipe).rowcount
    tx.execute(_REMOVE_TASKS, recipe)
    lowest = {"lowest_norm_ratio": calibration.near_norm_ratio.value}
    near, task = calibration.near_similarity, calibration.same_task
    changed = _upsert(tx, FindingKind.NEAR_DUPLICATE, near, recipe_id=recipe_id, evidence=lowest)
    _upsert(tx, FindingKind.SAME_TASK, task, recipe_id=recipe_id, evidence={})
    counted = tx.execute("select (select count(*) from members), (select count(*) from pairs)").fetchone()
    assert counted is not None  # noqa: S101 - a select without a table has one row
    return Replaced(versions=counted[0], pairs=counted[1], changed=changed, removed=removed)


def _upsert(
    tx: Transaction, kind: FindingKind, limit: Threshold, *, recipe_id: int, evidence: Mapping[str, object]
) -> int:
    pairs = Identifier("tasks" if kind is FindingKind.SAME_TASK else "pairs")
    parameters = {
        "kind": kind,
        "recipe_id": recipe_id,
        "threshold": limit.value,
        "evidence": Jsonb({"threshold_from": limit.note, **evidence}),
    }
    return tx.execute(SQL(_UPSERT).format(pairs=pairs), parameters).rowcount


def _copy(tx: Transaction, statement: SQL, types: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with tx.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
