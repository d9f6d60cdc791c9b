"""Revision token of the store, for readers that cache results."""

from __future__ import annotations

from deltadex.store.database import Transaction


def revision(tx: Transaction, registry: str) -> str:
    """Return a token that changes with every committed change, except heartbeats and the watchers' times.

    It uses sums and counts instead of the latest ids or times, because a transaction that starts early and commits late
    adds lower ones than a reader has already seen. Changed findings show as new ids or as a changed version.
    """
    row = tx.execute(
        """
        select concat_ws('.',
            (select sum(revision) from model_versions where registry = %(registry)s),
            (select concat_ws('.', count(*), sum(id)) from findings),
            (select sum(revision) from cluster_runs where registry = %(registry)s),
            (select sum(revision) from geometries where registry = %(registry)s),
            (select concat_ws('.', count(*), sum(x)) from layouts),
            (select concat_ws('.', count(*), sum(revision)) from meanings),
            (select concat_ws('.', count(*), sum(revision), sum(extract(epoch from due_at)::bigint)) from reviews),
            (select concat_ws('.', count(*), sum(revision)) from registered_models where registry = %(registry)s),
            (select md5(error) from watchers where registry = %(registry)s and error <> ''))
        """,
        {"registry": registry},
    ).fetchone()
    return str(row[0]) if row else ""
