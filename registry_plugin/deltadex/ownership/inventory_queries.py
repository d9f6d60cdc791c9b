"""SQL of the inventory: what the versions of each registered model come to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row
from psycopg.sql import SQL

from deltadex.store.database import Transaction
from deltadex.types import BASE_TAG
from deltadex.versions.queries import REGISTERED_MS


@dataclass(frozen=True)
class VersionsOfModel:
    """The versions of one registered model that are not deleted; a text is a list, separated by commas."""

    model: str
    versions: int
    newest: int
    states: str
    aliases: str
    bases: list[str]
    licenses: str
    base_licenses: str
    registered_first: datetime
    registered_last: datetime


def versions_by_model(tx: Transaction, registry: str) -> list[VersionsOfModel]:
    """Return what the versions of each registered model come to, by name."""
    with tx.cursor(row_factory=class_row(VersionsOfModel)) as cursor:
        return cursor.execute(
            SQL(
                """
                select name as model, count(*) as versions, (array_agg(version order by created_ms desc))[1] as newest,
                    string_agg(distinct state, ', ') as states,
                    coalesce(string_agg(named, ', ' order by version) filter (where named <> ''), '') as aliases,
                    coalesce(array_agg(distinct base) filter (where base <> ''), '{{}}') as bases,
                    coalesce(string_agg(distinct license, ', ') filter (where license <> ''), '') as licenses,
                    coalesce(string_agg(distinct base_license, ', ') filter (where base_license <> ''), '')
                        as base_licenses,
                    to_timestamp(min(registered_ms) / 1000.0) as registered_first,
                    to_timestamp(max(registered_ms) / 1000.0) as registered_last
                from (
                    select name, version, created_ms, state, {registered} as registered_ms,
                        coalesce(nullif(tags ->> %(base_tag)s, ''), declared_base, (
                            select base_name from current_embeddings join recipes on recipes.id = recipe_id
                            where model_version_id = model_versions.id order by current_since desc limit 1)) as base,
                        array_to_string(array(select alias || '=' || version from unnest(aliases) as alias), ', ')
                            as named,
                        coalesce(license, tags ->> 'license') as license, base_license
                    from model_versions
                    where registry = %(registry)s and state <> 'deleted') each
                group by name order by name
                """
            ).format(registered=REGISTERED_MS),
            {"registry": registry, "base_tag": BASE_TAG},
        ).fetchall()
