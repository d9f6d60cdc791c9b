"""Queries of what versions' runs had logged when the versions were embedded."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from psycopg.types.json import Jsonb

from deltadex.store.database import Transaction

#: Text by name, by `data`, `code` and `parameters`.
Record = Mapping[str, Mapping[str, str]]


def save(tx: Transaction, version_id: int, logged: Record) -> None:
    """Store a record; a version that is embedded again has the latest one."""
    tx.execute(
        """
        insert into training_records (model_version_id, logged) values (%s, %s)
        on conflict (model_version_id) do update set logged = excluded.logged
        """,
        [version_id, Jsonb(logged)],
    )


def records(tx: Transaction, version_ids: Collection[int]) -> dict[int, Record]:
    """Return the records of versions by id; those without one are left out."""
    found = tx.execute(
        "select model_version_id, logged from training_records where model_version_id = any(%s)", [list(version_ids)]
    )
    return dict(found.fetchall())
