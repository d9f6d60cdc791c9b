"""What models' weights are at some places, by which a merge is known."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from deltadex.checkpoints.imprint import Imprint
from deltadex.domain import Embedding, FloatArray
from deltadex.store.database import Transaction


def save(tx: Transaction, version_id: int, recipe_id: int, embedding: Embedding, imprint: Imprint) -> None:
    """Store the imprint of an embedding's weights; its row must be there."""
    updates = None if imprint.updates is None else imprint.updates.astype("<f4").tobytes()
    tx.execute(
        """
        insert into imprints (model_version_id, recipe_id, weights_digest, weights, updates)
        values (%s, %s, %s, %s, %s) on conflict do nothing
        """,
        [version_id, recipe_id, embedding.weights_digest, imprint.values.astype("<f4").tobytes(), updates],
    )


def of_versions(tx: Transaction, recipe_id: int, version_ids: Collection[int]) -> dict[int, Imprint]:
    """Return the imprints of versions under one recipe, by id; those without one are left out."""
    found = tx.execute(
        """
        select model_version_id, weights, updates
        from imprints join current_embeddings using (model_version_id, recipe_id, weights_digest)
        where recipe_id = %s and model_version_id = any(%s)
        """,
        [recipe_id, list(version_ids)],
    )
    return {
        version_id: Imprint(_floats(weights), None if updates is None else _floats(updates))
        for version_id, weights, updates in found
    }


def _floats(stored: bytes) -> FloatArray:
    return np.frombuffer(stored, "<f4").astype(np.float32)
