"""SQL of the sketches by which lineage is measured."""

from __future__ import annotations

from collections.abc import Collection

from deltadex.checkpoints.sketch import Sketch
from deltadex.store.database import Transaction
from deltadex.types import Embedding


def save(tx: Transaction, version_id: int, recipe_id: int, embedding: Embedding, sketch: Sketch) -> None:
    """Store the sketch of an embedding's weights; the row of the embedding must exist."""
    tx.execute(
        """
        insert into lineage_sketches (model_version_id, recipe_id, weights_digest, layout, sketch, coarse)
        values (%s, %s, %s, %s, %s, %s) on conflict do nothing
        """,
        [
            version_id,
            recipe_id,
            embedding.weights_digest,
            sketch.layout,
            sketch.to_bytes(),
            sketch.coarse().to_bytes(),
        ],
    )


def of_versions(tx: Transaction, version_ids: Collection[int]) -> dict[int, Sketch]:
    """Return the sketches of versions by id, those of their latest embeddings; those without one are left out."""
    found = tx.execute(
        """
        select distinct on (model_version_id) model_version_id, layout, sketch
        from lineage_sketches join current_embeddings using (model_version_id, recipe_id, weights_digest)
        where model_version_id = any(%s) order by model_version_id, current_since desc
        """,
        [list(version_ids)],
    )
    return {version_id: Sketch.from_bytes(layout, content) for version_id, layout, content in found}


def coarse(tx: Transaction, version_id: int) -> dict[int, Sketch]:
    """Return the coarse sketches of all versions that a version can be compared with, and its own, by id."""
    found = tx.execute(
        """
        select distinct on (model_version_id) model_version_id, sketches.layout, coarse
        from lineage_sketches sketches
        join current_embeddings using (model_version_id, recipe_id, weights_digest)
        join model_versions on id = model_version_id
        where state <> 'deleted' and (registry, sketches.layout) in (
            select registry, layout from lineage_sketches own
            join current_embeddings using (model_version_id, recipe_id, weights_digest)
            join model_versions on id = model_version_id where id = %s)
        order by model_version_id, current_since desc
        """,
        [version_id],
    )
    return {each: Sketch.from_bytes(layout, content) for each, layout, content in found}


def bases(tx: Transaction, version_id: int) -> dict[str, Sketch]:
    """Return a sketch of a version of each base of a version's layout, by the base's name; the version's own first."""
    found = tx.execute(
        """
        with own as (
            select registry, base_digest, layout from lineage_sketches
            join current_embeddings using (model_version_id, recipe_id, weights_digest)
            join recipes on recipes.id = recipe_id
            join model_versions on model_versions.id = model_version_id
            where model_version_id = %s order by current_since desc limit 1
        )
        select distinct on (recipes.base_digest = own.base_digest, recipes.base_digest)
            recipes.base_name, sketches.layout, sketch
        from own join lineage_sketches sketches using (layout)
        join recipes on recipes.id = recipe_id
        join model_versions on model_versions.id = model_version_id and model_versions.registry = own.registry
        order by recipes.base_digest = own.base_digest desc, recipes.base_digest, model_version_id
        """,
        [version_id],
    )
    return {name: Sketch.from_bytes(layout, content) for name, layout, content in found}


def named(tx: Transaction, version_id: int, labels: Collection[tuple[str, int]]) -> dict[int, tuple[str, int]]:
    """Return the ids of versions of a version's registry by their names and numbers, with these."""
    found = tx.execute(
        """
        select other.id, other.name, other.version from model_versions other
        join unnest(%(names)s::text[], %(versions)s::int[]) as wanted (name, version)
            on (other.name, other.version) = (wanted.name, wanted.version)
        where other.state <> 'deleted' and other.id <> %(id)s
            and other.registry = (select registry from model_versions where id = %(id)s)
        """,
        {"id": version_id, "names": [name for name, _ in labels], "versions": [number for _, number in labels]},
    )
    return {each: (name, number) for each, name, number in found}
