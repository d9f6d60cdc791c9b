"""What may go: vectors that nobody will ask for again. Versions, states, findings and decisions stay for good."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.store.database import Transaction


@dataclass(frozen=True)
class Pruned:
    """How many embeddings went, and what their vectors took.

    Attributes
    ----------
    deleted
        Of versions that have been deleted for long enough.
    superseded
        Of versions that have been embedded with other weights for long enough.
    """

    deleted: int
    superseded: int
    vector_bytes: int


def prune(tx: Transaction, *, days: float) -> Pruned:
    """Remove embeddings whose version was deleted, or which were superseded, more than `days` ago.

    What stays of such a version are its row, its states, its findings and the decisions about them. The artifacts on
    MLflow's runs are not ours to remove. Only the owner of the tables may do this; a version that comes back is
    embedded again.
    """
    gone = tx.execute(
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
    deleted = sum(is_deleted for is_deleted, _ in gone)
    return Pruned(deleted, len(gone) - deleted, sum(size for _, size in gone))
