"""The method by which a registry's versions are embedded: one at a time, the registry's own."""

from __future__ import annotations

from collections.abc import Mapping

from deltadex.access import Person, Right
from deltadex.engine.probes import DEFAULT_METHOD, METHODS
from deltadex.store.database import Transaction


def own_method(tx: Transaction, registry: str) -> str:
    """Return the name of the registry's own method, one of `METHODS`."""
    row = tx.execute("select method from watchers where registry = %s", [registry]).fetchone()
    return row[0] if row else DEFAULT_METHOD


def set_own_method(tx: Transaction, person: Person, registry: str, name: str) -> None:
    """Set the registry's own method; the watcher then has embedded again what another one embedded.

    Raises
    ------
    AccessDenied
        The person is no administrator.
    """
    person.require(Right.ADMINISTER)
    tx.execute(
        """
        insert into watchers (registry, method) values (%s, %s)
        on conflict (registry) do update set method = excluded.method
        """,
        [registry, name],
    )


def versions_by_method(tx: Transaction, registry: str) -> Mapping[str, int]:
    """Return how many versions have a current embedding by each method."""
    found = tx.execute(
        """
        select recipes.method->>'name', count(distinct model_version_id)
        from current_embeddings join recipes on recipes.id = recipe_id
        join model_versions on model_versions.id = model_version_id
        where registry = %s and state <> 'deleted' group by 1
        """,
        [registry],
    )
    by_name: dict[str, int] = dict(found.fetchall())
    return {name: by_name.get(method.name, 0) for name, method in METHODS.items()}


def start_others_over(tx: Transaction, registry: str) -> int:
    """Start versions over that another method than the registry's own embedded; return their number.

    They go into the backfill, so that fresh ones don't wait for them, and keep their embedding until they have another.
    """
    name = own_method(tx, registry)
    others = tx.execute(
        """
        update model_versions set queue = 'backfill'
        where registry = %s and state = 'embedded' and not exists (
            select from current_embeddings join recipes on recipes.id = recipe_id
            where model_version_id = model_versions.id and recipes.method->>'name' = %s)
        returning id
        """,
        [registry, METHODS[name].name],
    ).fetchall()
    reason = f"the registry's own method is {name} now"
    tx.execute(
        "select start_over(id, %s, false) from unnest(%s::bigint[]) as id", [reason, [number for (number,) in others]]
    )
    return len(others)
