"""Has anything changed? A cheap answer for readers that keep what they have computed."""

from __future__ import annotations

from deltadex.store.database import Transaction


def revision(tx: Transaction, registry: str) -> str:
    """Return a token that is another one after every committed change but heartbeats and the watchers' times.

    Sums and counts rather than latest ids or times: those of a transaction that started early and commits late lie
    below what a reader saw before. Findings change together with a version or by coming and going; reviews count
    their own changes.
    """
    row = tx.execute(
        """
        select concat_ws('.',
            (select sum(revision) from model_versions where registry = %(registry)s),
            (select concat_ws('.', count(*), sum(id)) from findings),
            (select sum(revision) from cluster_runs where registry = %(registry)s),
            (select sum(revision) from geometries where registry = %(registry)s),
            (select concat_ws('.', count(*), sum(x)) from layouts),
            (select concat_ws('.', count(*), sum(revision)) from reviews),
            (select md5(error) from watchers where registry = %(registry)s and error <> ''))
        """,
        {"registry": registry},
    ).fetchone()
    return str(row[0]) if row else ""
