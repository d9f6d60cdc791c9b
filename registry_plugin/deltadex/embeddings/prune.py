"""Deletion of embeddings of deleted or superseded versions. Versions, states, findings and decisions are kept."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.store.database import Transaction


@dataclass(frozen=True)
class Pruned:
    """Number of removed embeddings, and the size of their vectors.

    Attributes
    ----------
    deleted
        Embeddings of versions that were deleted long enough ago.
    superseded
        Embeddings of versions that were embedded with other weights long enough ago.
    """

    deleted: int
    superseded: int
    vector_bytes: int


def prune(tx: Transaction, *, days: float) -> Pruned:
    """Remove embeddings that were superseded, or whose version was deleted, more than `days` ago.

    The version's row, states, findings and decisions are kept. Artifacts on MLflow runs are never removed. Only the
    owner of the tables may do this. A version that comes back is embedded again.
    """
    removed = tx.execute(
        """
        with old as materialized (
            select one.ctid as place, one.model_version_id, one.recipe_id, state = 'deleted' as is_deleted
            from embeddings one
            join model_versions on id = one.model_version_id
            left join current_embeddings latest
                on one.current_since is null and latest.model_version_id = id and latest.recipe_id = one.recipe_id
            where case when state = 'deleted' then state_since else latest.current_since end
                < now() - make_interval(secs => 86400 * %s)
        ), uncoded as (
            delete from codes using old
            where is_deleted and (codes.recipe_id, codes.model_version_id) = (old.recipe_id, old.model_version_id)
        )
        delete from embeddings using old where embeddings.ctid = place
        returning is_deleted, pg_column_size(vector)
        """,
        [days],
    ).fetchall()
    deleted = sum(is_deleted for is_deleted, _ in removed)
    return Pruned(deleted, len(removed) - deleted, sum(size for _, size in removed))
