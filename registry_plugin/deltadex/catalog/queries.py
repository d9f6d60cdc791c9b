"""SQL of the list of registered models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed
from psycopg.types.json import Jsonb

from deltadex.catalog.wanted import Wanted
from deltadex.escaping import storable
from deltadex.store.database import Transaction
from deltadex.types import DOMAIN_TAG, OWNER_TAGS, TOOL_TAGS
from deltadex.versions.queries import REGISTERED_MS

_PLAIN: LiteralString = """
    (select bool_and(
        position(lower(term) in lower(name)) > 0
        or exists (
            select from jsonb_each_text(tags) as tag (key, value)
            where not (key ^@ any(%(tool_tags)s))
                and (position(lower(term) in lower(key)) > 0 or position(lower(term) in lower(value)) > 0)))
    from unnest(%(terms)s::text[]) as term)
"""
_DOMAIN: LiteralString = """
    (tags @> %(domain)s
    or id in (select model_version_id from cluster_assignments where cluster_id = any(%(clusters)s)))
"""
_TEAM: LiteralString = """
    (tags @> any(%(team)s) or name in (
        select name from registered_models where registry = %(registry)s and owner = %(owner)s and not is_gone))
"""
_TIER: LiteralString = """
    name in (select name from registered_models where registry = %(registry)s and tier = %(tier)s and not is_gone)
"""


@dataclass(frozen=True)
class Matching:
    """Numbers of registered models and of their versions."""

    models: int
    versions: int


@dataclass(frozen=True)
class ModelHit:
    """The newest matching version of a model, and how many of the model's versions match."""

    version_id: int
    versions: int


def count(tx: Transaction, condition: Composed, parameters: Mapping[str, object]) -> Matching:
    """Count the models and versions that meet a condition."""
    query = SQL("select count(distinct name), count(*) from model_versions where {}").format(condition)
    row = tx.execute(query, parameters).fetchone()
    return Matching(*row) if row else Matching(0, 0)


def page(
    tx: Transaction, condition: Composed, parameters: Mapping[str, object], *, by_name: bool, offset: int, limit: int
) -> list[ModelHit]:
    """Return the models that meet a condition, from `offset` on: the last registered first, or by name."""
    query = SQL(
        """
        select id, versions from (
            select distinct on (name) id, name, created_ms, count(*) over (partition by name) as versions
            from model_versions where {} order by name, created_ms desc, version desc) as models
        order by {} limit %(limit)s offset %(offset)s
        """
    ).format(condition, SQL("name" if by_name else "created_ms desc, name"))
    return [ModelHit(*row) for row in tx.execute(query, {**parameters, "limit": limit, "offset": offset})]


def condition(
    registry: str, wanted: Wanted, *, names: Collection[str] | None, clusters: Collection[int]
) -> tuple[Composed, dict[str, object]]:
    """Return the condition on rows of `model_versions`, and its parameters.

    Parameters
    ----------
    names
        Registered models that the viewer may see; None for all.
    clusters
        Ids of the clusters that are named as the wanted domain.
    """
    clauses: dict[str, tuple[Composable, object]] = {
        "registry": (SQL("registry = %(registry)s"), registry),
        "names": (SQL("name = any(%(names)s)"), None if names is None else list(names)),
        "terms": (SQL(_PLAIN), [storable(term) for term in wanted.terms] or None),
        "tags": (SQL("tags @> %(tags)s"), _json(wanted.tags) if wanted.tags else None),
        "team": (
            SQL(_TEAM),
            None if wanted.team is None else [_json({tag: wanted.team}) for tag in OWNER_TAGS],
        ),
        "tier": (SQL(_TIER), wanted.tier),
        "domain": (SQL(_DOMAIN), None if wanted.domain is None else _json({DOMAIN_TAG: wanted.domain})),
        "states": (SQL("state = any(%(states)s)"), sorted(wanted.states) or None),
        "since": (SQL("{} >= %(since)s").format(REGISTERED_MS), _milliseconds(wanted.since)),
        "until": (SQL("{} < %(until)s").format(REGISTERED_MS), _milliseconds(wanted.until)),
    }
    used = {name: value for name, (_, value) in clauses.items() if value is not None}
    combined = SQL(" and ").join([SQL("state <> 'deleted'"), *(clauses[name][0] for name in used)])
    owner = None if wanted.team is None else storable(wanted.team)
    return combined, {**used, "clusters": list(clusters), "tool_tags": list(TOOL_TAGS), "owner": owner}


def tag_values(tx: Transaction, registry: str, keys: Collection[str], *, names: Collection[str] | None) -> list[str]:
    """Return the values of these tags, sorted."""
    found = tx.execute(
        """
        select distinct tags ->> key from model_versions cross join unnest(%(keys)s::text[]) as key
        where registry = %(registry)s and state <> 'deleted' and tags ->> key <> ''
            and (%(names)s::text[] is null or name = any(%(names)s))
        order by 1
        """,
        {"registry": registry, "keys": list(keys), "names": None if names is None else list(names)},
    )
    return [value for (value,) in found]


def model_owners(tx: Transaction, registry: str, *, names: Collection[str] | None) -> list[str]:
    """Return the owners of the registered models that have a version, sorted."""
    found = tx.execute(
        """
        select distinct owner from registered_models known
        where registry = %(registry)s and owner <> '' and not is_gone
            and (%(names)s::text[] is null or name = any(%(names)s))
            and exists (select from model_versions
                where (registry, name) = (known.registry, known.name) and state <> 'deleted')
        order by 1
        """,
        {"registry": registry, "names": None if names is None else list(names)},
    )
    return [owner for (owner,) in found]


def labels(tx: Transaction, registry: str) -> list[tuple[str, int]]:
    """Return name and number of all versions, by name and then newest first."""
    return tx.execute(
        """
        select name, version from model_versions where registry = %s and state <> 'deleted'
        order by name, created_ms desc, version desc
        """,
        [registry],
    ).fetchall()


def clusters_of(tx: Transaction, version_ids: Collection[int]) -> dict[int, int]:
    """Return the id of each version's cluster under its latest recipe, by version id; versions in none are left out."""
    found = tx.execute(
        """
        select distinct on (model_version_id) model_version_id, cluster_id from cluster_assignments
        where model_version_id = any(%s) and cluster_id is not null order by model_version_id, recipe_id desc
        """,
        [list(version_ids)],
    )
    return dict(found.fetchall())


def _json(tags: Mapping[str, str]) -> Jsonb:
    return Jsonb({storable(key): storable(value) for key, value in tags.items()})


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
