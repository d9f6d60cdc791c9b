"""Sampled weights of embedded models, used to detect LoRA merges and quantized copies."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from deltadex.checkpoints.merge_check import Imprint
from deltadex.store.database import Transaction
from deltadex.types import Embedding, FloatArray

#: Versions whose weights are compared with those of a new one.
_COMPARED_AT_MOST = 100


def save(tx: Transaction, version_id: int, recipe_id: int, embedding: Embedding, imprint: Imprint) -> None:
    """Store the imprint of an embedding's weights; the row of the embedding must exist."""
    tx.execute(
        """
        insert into imprints (model_version_id, recipe_id, weights_digest, weights, updates, bits, base)
        values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing
        """,
        [
            version_id,
            recipe_id,
            embedding.weights_digest,
            _bytes(imprint.values),
            _bytes(imprint.updates),
            imprint.bits,
            _bytes(imprint.base),
        ],
    )


def of_versions(tx: Transaction, recipe_id: int, version_ids: Collection[int]) -> dict[int, Imprint]:
    """Return the imprints of versions under one recipe, by id; those without one are left out."""
    found = tx.execute(
        """
        select model_version_id, weights, updates, bits, base
        from imprints join current_embeddings using (model_version_id, recipe_id, weights_digest)
        where recipe_id = %s and model_version_id = any(%s)
        """,
        [recipe_id, list(version_ids)],
    )
    return {
        version_id: Imprint(values, _floats(updates), bits, _floats(base))
        for version_id, weights, updates, bits, base in found
        if (values := _floats(weights)) is not None
    }


def maybe_quantized_copies(tx: Transaction, version_id: int, recipe_id: int, near: Collection[int]) -> list[int]:
    """Return the ids of versions that may be the same model as this one, quantized, or its original.

    These are the other versions of its registered model, and those near it, where one of the two was quantized.
    """
    found = tx.execute(
        """
        with compared as (
            select id, registry, name, bits from imprints
            join current_embeddings using (model_version_id, recipe_id, weights_digest)
            join model_versions on id = model_version_id where recipe_id = %(recipe_id)s and state <> 'deleted'
        )
        select other.id from compared other join compared own on own.id = %(version_id)s and own.id <> other.id
        where own.bits is distinct from other.bits
            and (other.id = any(%(near)s) or (other.registry, other.name) = (own.registry, own.name))
        order by other.id desc limit %(limit)s
        """,
        {"recipe_id": recipe_id, "version_id": version_id, "near": list(near), "limit": _COMPARED_AT_MOST},
    )
    return [other_id for (other_id,) in found]


def _bytes(values: FloatArray | None) -> bytes | None:
    return None if values is None else values.astype("<f4").tobytes()


def _floats(stored: bytes | None) -> FloatArray | None:
    return None if stored is None else np.frombuffer(stored, "<f4").astype(np.float32)
