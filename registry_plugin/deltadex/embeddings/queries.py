"""Stored embeddings, one per version and recipe.

Comparisons leave out deleted versions and embeddings that are too weak to place, and never cross recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import LiteralString

import numpy as np
from pgvector import HalfVector, Vector
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.embeddings import codes
from deltadex.store.database import Transaction
from deltadex.types import Embedding, FloatArray, Provenance, VersionRow
from deltadex.versions.queries import by_ids

_NOTHING_KNOWN = Provenance()


@dataclass(frozen=True)
class RecipeRow:
    """One recipe: a space in which embeddings are comparable.

    Attributes
    ----------
    embedded
        Number of its versions that are not deleted, weak ones included.
    noise_floor
        Largest noise floor of its embeddings, as in `deltadex.types.Embedding`.
    probe_set
        Name of its probes.
    """

    id: int
    digest: str
    base_name: str
    base_digest: str
    dimension: int
    embedded: int
    noise_floor: float | None
    probe_set: str


@dataclass(frozen=True, eq=False)
class StoredEmbedding:
    """A version's embedding under one recipe.

    Attributes
    ----------
    vector
        `(dimension,)` float32, not normalised.
    norm, strength, agreement
        As in `deltadex.types.Embedding`; `agreement` is its `probe_agreement`.
    """

    recipe: RecipeRow
    vector: FloatArray
    norm: float
    strength: float
    agreement: float
    is_weak: bool
    created_at: datetime


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Embeddings of one recipe, in the order of version ids.

    Attributes
    ----------
    rows
        `n` versions.
    vectors
        `(n, dimension)` float32, not normalised.
    """

    rows: tuple[VersionRow, ...]
    vectors: FloatArray

    def of(self, is_wanted: Callable[[VersionRow], bool]) -> EmbeddingTable:
        """Return the embeddings of the versions that fulfil a condition."""
        places = [place for place, row in enumerate(self.rows) if is_wanted(row)]
        return EmbeddingTable(tuple(self.rows[place] for place in places), self.vectors[places])


def lock(tx: Transaction, stored: Sequence[Embedding]) -> None:
    """Serialise transactions that store under one of these recipes, or of the same weights under another.

    The second of two duplicates then sees the first. Always locked in the same order, so that no two wait for each
    other.
    """
    for digest in sorted({embedding.recipe.digest for embedding in stored}):
        lock_recipe(tx, digest)
    for digest in sorted({embedding.weights_digest for embedding in stored}):
        _lock(tx, f"weights:{digest}")


def lock_recipe(tx: Transaction, digest: str) -> None:
    """Serialise a transaction with those that store under a recipe, as `lock` does."""
    _lock(tx, f"recipe:{digest}")


def supersede_other_methods(tx: Transaction, version_id: int, embedding: Embedding) -> list[int]:
    """Let a version's current embeddings by other methods become history; return the ids of their recipes."""
    found = tx.execute(
        """
        update embeddings set current_since = null from recipes
        where recipes.id = recipe_id and model_version_id = %s and current_since is not null
            and method->>'name' <> %s
        returning recipe_id
        """,
        [version_id, embedding.recipe.method.name],
    ).fetchall()
    recipe_ids = [recipe_id for (recipe_id,) in found]
    for recipe_id in recipe_ids:
        codes.put(tx, recipe_id, version_id, None)
    return recipe_ids


def save(
    tx: Transaction,
    version_id: int,
    embedding: Embedding,
    *,
    base_name: str,
    artifact_uri: str,
    is_weak: bool,
    provenance: Provenance = _NOTHING_KNOWN,
) -> int:
    """Store an embedding and mark its version as embedded unless it was deleted; return the recipe's id.

    Idempotent: a stored vector is kept even if another machine rounds differently, and only `is_weak` follows the
    current thresholds. An embedding of other weights supersedes the earlier one, which is kept as history.
    """
    recipe_id = _save_recipe(tx, embedding, base_name)
    tx.execute(
        """
        update embeddings set current_since = null
        where model_version_id = %s and recipe_id = %s and weights_digest <> %s and current_since is not null
        """,
        [version_id, recipe_id, embedding.weights_digest],
    )
    stored = tx.execute(
        """
        insert into embeddings (
            model_version_id, recipe_id, vector, norm, base_norm, probe_agreement, is_weak, weights_digest,
            probe_deltas)
        values (%s, %s, %b, %s, %s, %s, %s, %s, %b::halfvec[])
        on conflict (model_version_id, recipe_id, weights_digest) do update set
            is_weak = excluded.is_weak, current_since = now(),
            probe_deltas = coalesce(embeddings.probe_deltas, excluded.probe_deltas)
        returning vector
        """,
        [
            version_id,
            recipe_id,
            Vector(embedding.vector),
            embedding.norm,
            embedding.base_norm,
            embedding.probe_agreement,
            is_weak,
            embedding.weights_digest,
            _shares(embedding),
        ],
        binary=True,
    ).fetchone()
    assert stored is not None  # noqa: S101 - an upsert without a condition always returns its row
    codes.put(tx, recipe_id, version_id, None if is_weak else stored[0].to_numpy())
    tx.execute(
        """
        update model_versions
        set state = 'embedded', weights_digest = %s, artifact_uri = %s, reason = '', hint = '',
            weights_bytes = coalesce(%s, weights_bytes), training_digest = coalesce(%s, training_digest), metrics = %s,
            training_settings = %s
        where id = %s and state <> 'deleted'
        """,
        [
            embedding.weights_digest,
            artifact_uri,
            provenance.weights_bytes,
            provenance.training_digest,
            Jsonb(dict(provenance.metrics)),
            Jsonb(dict(provenance.settings)),
            version_id,
        ],
    )
    return recipe_id


def stored_vector(tx: Transaction, version_id: int, embedding: Embedding) -> FloatArray | None:
    """Return the stored vector of a version under the embedding's recipe and weights, superseded or not."""
    row = tx.execute(
        """
        select vector from embeddings join recipes on recipes.id = recipe_id
        where model_version_id = %s and digest = %s and weights_digest = %s
        """,
        [version_id, embedding.recipe.digest, embedding.weights_digest],
        binary=True,
    ).fetchone()
    if row is None:
        return None
    vector: FloatArray = row[0].to_numpy()
    return vector


def same_weights(tx: Transaction, version_id: int) -> list[VersionRow]:
    """Return the other versions of the same registry with equal tensors, oldest first."""
    found = tx.execute(
        """
        select other.id from model_versions other join model_versions this using (registry, weights_digest)
        where this.id = %s and other.id <> this.id and other.state <> 'deleted' order by other.id
        """,
        [version_id],
    )
    return list(ordered(tx, [other_id for (other_id,) in found]))


def norms(tx: Transaction, recipe_id: int, ids: Sequence[int]) -> dict[int, float]:
    """Return the norms of versions under one recipe, by id; versions without an embedding are left out."""
    found = tx.execute(
        "select model_version_id, norm from current_embeddings where recipe_id = %s and model_version_id = any(%s)",
        [recipe_id, list(ids)],
    )
    return dict(found.fetchall())


def of_version(tx: Transaction, version_id: int) -> list[StoredEmbedding]:
    """Return a version's embeddings, the latest first."""
    found = tx.execute(
        """
        select recipe_id, vector, norm, base_norm, probe_agreement, is_weak, created_at
        from current_embeddings where model_version_id = %s order by current_since desc, recipe_id desc
        """,
        [version_id],
        binary=True,
    ).fetchall()
    recipes_by_id = {
        row.id: row
        for row in _recipes(
            tx,
            """
            registry = (select registry from model_versions where id = %(id)s)
            and recipes.id in (select recipe_id from current_embeddings where model_version_id = %(id)s)
            """,
            {"id": version_id},
        )
    }
    return [
        StoredEmbedding(
            recipes_by_id[recipe_id],
            vector.to_numpy(),
            norm,
            norm / base_norm if base_norm else 0.0,
            agreement,
            weak,
            at,
        )
        for recipe_id, vector, norm, base_norm, agreement, weak, at in found
    ]


def table(
    tx: Transaction,
    recipe_id: int,
    *,
    with_weak: bool = False,
    registry: str | None = None,
    ids: Sequence[int] | None = None,
) -> EmbeddingTable:
    """Return the embeddings of one recipe, optionally only those of one registry or of some versions."""
    found = tx.execute(
        """
        select id, vector
        from current_embeddings join model_versions on id = model_version_id
        where recipe_id = %s and (%s or has_direction) and registry = coalesce(%s, registry) and state <> 'deleted'
            and (%s::bigint[] is null or id = any(%s))
        order by id
        """,
        [recipe_id, with_weak, registry, None if ids is None else list(ids), None if ids is None else list(ids)],
        binary=True,
    ).fetchall()
    return EmbeddingTable(
        ordered(tx, [version_id for version_id, _ in found]), _stacked(tx, recipe_id, [vector for _, vector in found])
    )


def mean_of_models(tx: Transaction, recipe_id: int, registry: str) -> tuple[FloatArray, int]:
    """Return the mean over models of the mean vector of their versions, and the number of models.

    The mean is `(d,)` float32, or empty if there are none. Equal weights count once, and versions that are too weak to
    place are left out.
    """
    row = tx.execute(
        """
        with once as (
            select distinct on (current_embeddings.weights_digest) name, vector
            from current_embeddings join model_versions on id = model_version_id
            where recipe_id = %s and registry = %s and has_direction and state <> 'deleted'
            order by current_embeddings.weights_digest, id),
        models as (select avg(vector) as mean from once group by name)
        select avg(mean), count(*) from models
        """,
        [recipe_id, registry],
        binary=True,
    ).fetchone()
    return (row[0].to_numpy(), row[1]) if row and row[1] else (np.empty(0, np.float32), 0)


def too_weak(tx: Transaction, recipe_id: int, registry: str) -> tuple[VersionRow, ...]:
    """Return the versions that are too weak to place under one recipe, in the order of their ids."""
    found = tx.execute(
        """
        select id from current_embeddings join model_versions on id = model_version_id
        where recipe_id = %s and registry = %s and not has_direction and state <> 'deleted' order by id
        """,
        [recipe_id, registry],
    )
    return ordered(tx, [version_id for (version_id,) in found])


def recipes(tx: Transaction, registry: str, *, name: str | None = None) -> list[RecipeRow]:
    """Return the recipes of a registry's embeddings, or of one registered model's, the largest first."""
    scope: LiteralString = "registry = %(registry)s and state <> 'deleted'"
    of_model: LiteralString = " and name = %(name)s" if name is not None else ""
    return _recipes(tx, scope + of_model, {"registry": registry, "name": name})


def methods(tx: Transaction, recipe_ids: Sequence[int]) -> dict[str, dict[str, str]]:
    """Return the methods of recipes, as `deltadex.types.EmbeddingMethod` has them, by the recipes' digests."""
    return dict(tx.execute("select digest, method from recipes where id = any(%s)", [list(recipe_ids)]).fetchall())


def dtype_of_base(tx: Transaction, registry: str, base_name: str, *, probe_digest: str) -> str | None:
    """Return the dtype in which most of a registry's finetunes of a base were embedded; None before the first."""
    row = tx.execute(
        """
        select method->>'dtype' from recipes
        join current_embeddings on recipe_id = recipes.id join model_versions on model_versions.id = model_version_id
        where base_name = %s and method->>'probe_digest' = %s and registry = %s and state <> 'deleted'
        group by recipes.id order by count(*) desc, recipes.id limit 1
        """,
        [base_name, probe_digest, registry],
    ).fetchone()
    return row[0] if row else None


def _recipes(tx: Transaction, condition: LiteralString, parameters: Mapping[str, object]) -> list[RecipeRow]:
    query = SQL(
        """
        select recipes.id, digest, base_name, base_digest, dimension, count(*) filter (where state <> 'deleted'),
            noise_floor, method->>'probe_set'
        from recipes
        join current_embeddings on recipe_id = recipes.id
        join model_versions on model_versions.id = model_version_id
        where {}
        group by recipes.id order by 6 desc, recipes.id
        """
    ).format(SQL(condition))
    return [RecipeRow(*values) for values in tx.execute(query, parameters)]


def _save_recipe(tx: Transaction, embedding: Embedding, base_name: str) -> int:
    recipe = embedding.recipe
    tx.execute(
        """
        insert into recipes as known (digest, method, base_digest, base_name, dimension, noise_floor)
        values (%s, %s, %s, %s, %s, %s)
        on conflict (digest) do update set noise_floor = excluded.noise_floor
        where excluded.noise_floor > coalesce(known.noise_floor, -1)
        """,
        [
            recipe.digest,
            Jsonb(asdict(recipe.method)),
            recipe.base_digest,
            base_name,
            recipe.dimension,
            embedding.noise_floor,
        ],
    )
    row = tx.execute("select id from recipes where digest = %s", [recipe.digest]).fetchone()
    assert row is not None  # noqa: S101 - the statement before inserts it if it is missing
    return int(row[0])


def _shares(embedding: Embedding) -> list[HalfVector]:
    """Return each probe's delta as a share of the base's norm, so that it fits half precision at any scale."""
    largest = float(np.finfo(np.float16).max)
    shares = embedding.probe_deltas / (embedding.base_norm or 1.0)
    return [HalfVector(np.clip(share, -largest, largest)) for share in shares]


def ordered(tx: Transaction, ids: Sequence[int]) -> tuple[VersionRow, ...]:
    """Return the rows of versions, in the order of `ids`."""
    rows = by_ids(tx, ids)
    return tuple(rows[version_id] for version_id in ids)


def _stacked(tx: Transaction, recipe_id: int, vectors: Sequence[Vector]) -> FloatArray:
    row = tx.execute("select dimension from recipes where id = %s", [recipe_id]).fetchone()
    stacked = np.empty((len(vectors), row[0] if row else 0), dtype=np.float32)
    for row_of_stack, vector in zip(stacked, vectors, strict=True):
        row_of_stack[:] = vector.to_numpy()
    return stacked


def _lock(tx: Transaction, name: str) -> None:
    tx.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
