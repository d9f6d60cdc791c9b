"""SQL of registered models: their kept tags, what people state about them, and the history of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from deltadex.errors import FindingChanged
from deltadex.ownership.attestation import Attestation
from deltadex.store.database import Transaction
from deltadex.types import OWNER_TAGS, Finding, FindingKind, RiskTier

#: SQLSTATE of `record_ownership` for a value that another person has changed.
_CHANGED_MEANWHILE = "DX001"


@dataclass(frozen=True)
class ModelRecord:
    """Stored facts about one registered model with a version in the registry.

    Attributes
    ----------
    first_id
        Its oldest version that is not deleted, which findings about the model are about.
    version_owner
        Owner by the tags of its newest version; empty if they name none.
    tags
        Kept tags of the registered model.
    stated
        Stated values, by field.
    """

    name: str
    first_id: int
    version_owner: str
    tags: Mapping[str, str]
    stated: Mapping[str, str]
    attestation: Attestation | None


@dataclass(frozen=True)
class OwnershipEntry:
    """One entry of the history.

    Attributes
    ----------
    former, stated
        The value before and after; None: nothing was stated, and the tag applied.
    statement
        Of an attestation: what was attested.
    """

    id: int
    subject: str
    field: str
    former: str | None
    stated: str | None
    statement: Mapping[str, Any]
    person: str
    identity: str
    recorded_by: str
    recorded_at: datetime
    hash: str


@dataclass(frozen=True)
class KnownModel:
    """A registered model as the latest comparison with MLflow left it."""

    id: int
    name: str
    created_ms: int | None
    tags: Mapping[str, str]
    tag_owner: str | None
    tag_tier: str | None


@dataclass(frozen=True)
class OutdatedTags:
    """A model whose tags in MLflow may not be what people state.

    Attributes
    ----------
    entry_id
        The latest entry about it.
    withdrawn
        Fields that are no longer stated, and whose tag in MLflow is still ours.
    """

    id: int
    name: str
    tags: Mapping[str, str]
    stated: Mapping[str, str]
    entry_id: int
    withdrawn: tuple[str, ...]


def records(
    tx: Transaction, registry: str, *, names: Collection[str] | None = None, tiers: Collection[RiskTier] | None = None
) -> list[ModelRecord]:
    """Return the registered models that have a version in the registry, by name.

    Parameters
    ----------
    names
        Only these models; None for all.
    tiers
        Only models of these tiers, and those that were ever attested; None for all.
    """
    rows = tx.execute(
        _RECORDS,
        {
            "registry": registry,
            "names": None if names is None else list(names),
            "tiers": None if tiers is None else list(tiers),
            "owner_tags": list(OWNER_TAGS),
        },
    )
    return [
        ModelRecord(name, first_id, version_owner, tags, stated, _attestation(*attested))
        for name, first_id, version_owner, tags, stated, *attested in rows
    ]


def history(tx: Transaction, registry: str, name: str) -> list[OwnershipEntry]:
    """Return the history of one registered model, newest first."""
    with tx.cursor(row_factory=class_row(OwnershipEntry)) as cursor:
        return cursor.execute(
            """
            select id, subject, field, former, stated, statement, person, identity, recorded_by, recorded_at, hash
            from ownership_entries where model_id = (
                select id from registered_models where (registry, name) = (%s, %s) and not is_gone)
            order by id desc
            """,
            [registry, name],
        ).fetchall()


def record(
    tx: Transaction,
    registry: str,
    name: str,
    field: str,
    *,
    former: str | None,
    stated: str | None,
    statement: Mapping[str, Any],
    person: str,
    identity: str,
) -> int:
    """Append an entry to the history, change what is stated, and return the entry's id.

    Parameters
    ----------
    former
        The stated value that the author saw.
    stated
        None: nothing is stated any more, and the tag applies.
    person, identity
        As in `deltadex.reviews.queries.record`.

    Raises
    ------
    FindingChanged
        Something else is stated than the author saw.
    """
    try:
        row = tx.execute(
            "select record_ownership(%s, %s, %s, %s, %s, %s, %s, %s)",
            [registry, name, field, former, stated, Jsonb(dict(statement)), person, identity],
        ).fetchone()
    except psycopg.Error as error:
        if error.sqlstate == _CHANGED_MEANWHILE:
            raise FindingChanged(
                f"{name} has changed: its {field.replace('_', ' ')} is not what you saw", hint="Look at it again."
            ) from error
        raise
    assert row is not None  # noqa: S101 - a select without a table has one row
    return int(row[0])


def known_models(tx: Transaction, registry: str) -> list[KnownModel]:
    """Return the registered models of earlier comparisons that are not gone."""
    with tx.cursor(row_factory=class_row(KnownModel)) as cursor:
        return cursor.execute(
            """
            select id, name, created_ms, tags, tag_owner, tag_tier from registered_models
            where registry = %s and not is_gone order by id
            """,
            [registry],
        ).fetchall()


def mark_gone(tx: Transaction, ids: Collection[int]) -> None:
    """Mark models whose name another one has now."""
    tx.execute("update registered_models set is_gone = true where id = any(%s)", [list(ids)])


def store(tx: Transaction, registry: str, models: Collection[KnownModel]) -> None:
    """Store models of a comparison: those with the id 0 are new."""
    with tx.cursor() as cursor:
        # Gone until all have their new names: two models may have exchanged theirs.
        cursor.executemany(
            "update registered_models set is_gone = true where id = %s and name <> %s",
            [(one.id, one.name) for one in models if one.id],
        )
        cursor.executemany(
            """
            update registered_models set name = %s, created_ms = %s, tags = %s, tag_owner = %s, tag_tier = %s,
                is_gone = false
            where id = %s
            """,
            [(*_columns(one), one.id) for one in models if one.id],
        )
        cursor.executemany(
            """
            insert into registered_models (registry, name, created_ms, tags, tag_owner, tag_tier)
            values (%s, %s, %s, %s, %s, %s) on conflict (registry, name) where not is_gone do nothing
            """,
            [(registry, *_columns(one)) for one in models if not one.id],
        )


def with_outdated_tags(tx: Transaction, registry: str, *, tags: Mapping[str, str], limit: int) -> list[OutdatedTags]:
    """Return models whose tags in MLflow differ from what people state, as far as is known.

    Parameters
    ----------
    tags
        The tag of each field.
    """
    with tx.cursor(row_factory=class_row(OutdatedTags)) as cursor:
        return cursor.execute(
            """
            select id, name, tags, stated, entry_id, withdrawn
            from (
                select *, coalesce((select max(id) from ownership_entries where model_id = known.id), 0) as entry_id,
                    array(select distinct field from ownership_entries
                        where model_id = known.id and id > tagged_id and field <> 'attestation'
                            and not known.stated ? field) as withdrawn
                from registered_models known where registry = %(registry)s and not is_gone
                    and exists (select from ownership_entries where model_id = known.id)) known
            where (entry_id > tagged_id
                or exists (select from jsonb_each_text(stated) as said (field, value)
                    where known.tags ->> (%(tags)s::jsonb ->> said.field) is distinct from said.value))
                and exists (select from model_versions
                    where (registry, name) = (known.registry, known.name) and state <> 'deleted')
            order by id limit %(limit)s
            """,
            {"registry": registry, "tags": Jsonb(dict(tags)), "limit": limit},
        ).fetchall()


def mark_tagged(tx: Transaction, model: KnownModel, entry_id: int) -> None:
    """Record that MLflow's tags tell of this entry, and what they are now."""
    tx.execute(
        """
        update registered_models set tagged_id = %s, tags = %s, tag_owner = %s, tag_tier = %s where id = %s
        """,
        [entry_id, Jsonb(dict(model.tags)), model.tag_owner, model.tag_tier, model.id],
    )


def replace_findings(tx: Transaction, registry: str, found: Collection[Finding]) -> None:
    """Make these the findings about attestations; those that are unchanged are left alone."""
    rows = tx.execute(
        """
        select findings.id, model_version_id, evidence from findings
        join model_versions version on version.id = model_version_id where registry = %s and kind = %s
        """,
        [registry, FindingKind.NOT_ATTESTED],
    ).fetchall()
    wanted = {finding.version_id: dict(finding.evidence) for finding in found}
    known = {version_id: evidence for _, version_id, evidence in rows}
    if gone := [id_ for id_, version_id, _ in rows if version_id not in wanted]:
        tx.execute("delete from findings where id = any(%s)", [gone])
    changed = [(version_id, evidence) for version_id, evidence in wanted.items() if known.get(version_id) != evidence]
    if changed:
        with tx.cursor() as cursor:
            cursor.executemany(
                """
                insert into findings as known (kind, model_version_id, evidence) values (%s, %s, %s)
                on conflict (kind, model_version_id, other_id)
                    do update set evidence = excluded.evidence, measured_at = now()
                """,
                [(FindingKind.NOT_ATTESTED, version_id, Jsonb(evidence)) for version_id, evidence in changed],
            )


def chained(tx: Transaction) -> Iterator[tuple[str | None, ...]]:
    """Yield what each entry's hash is over, in the order of `ownership_digest` in 0029_ownership.sql, and the hash."""
    with tx.cursor("ownership") as cursor:
        yield from cursor.execute(
            """
            select previous_hash, id::text, model_id::text, subject, field, former, stated, statement::text, person,
                identity, recorded_by, to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), hash
            from ownership_entries order by ownership_entries.id  -- `id` alone would be the text
            """
        )


def contradicted(tx: Transaction) -> list[str]:
    """Return the models about which something else is stated than the history says."""
    rows = tx.execute(
        """
        with latest as (
            select distinct on (model_id, field) model_id, field, stated, id from ownership_entries
            order by model_id, field, id desc
        ), said as (
            select model_id, coalesce(jsonb_object_agg(field, stated) filter (
                where stated is not null and field <> 'attestation'), '{}') as stated,
                max(id) filter (where field = 'attestation') as attested_id
            from latest group by model_id)
        select name from registered_models left join said on model_id = registered_models.id
        where registered_models.stated <> coalesce(said.stated, '{}')
            or registered_models.attested_id is distinct from said.attested_id
        order by registered_models.id
        """
    )
    return [name for (name,) in rows]


def _columns(one: KnownModel) -> tuple[object, ...]:
    return one.name, one.created_ms, Jsonb(dict(one.tags)), one.tag_owner, one.tag_tier


def _attestation(
    entry_id: int | None, hash_: str, person: str, identity: str, at: datetime, statement: Mapping[str, str]
) -> Attestation | None:
    if entry_id is None:
        return None
    return Attestation(
        entry_id, hash_, person, identity, at, statement["owner"], RiskTier(statement["tier"]),
        statement["intended_use"],
    )  # fmt: skip


_RECORDS: LiteralString = """
    select living.name, first_id, version_owner, coalesce(known.tags, '{}'), coalesce(known.stated, '{}'),
        entry.id, entry.hash, entry.person, entry.identity, entry.recorded_at, entry.statement
    from (
        select distinct on (name) name,
            first_value(id) over (partition by name order by created_ms, version) as first_id,
            coalesce((select tags ->> tag from unnest(%(owner_tags)s::text[]) with ordinality as each (tag, place)
                where tags ->> tag <> '' order by place limit 1), '') as version_owner
        from model_versions
        where registry = %(registry)s and state <> 'deleted' and (%(names)s::text[] is null or name = any(%(names)s))
            and (%(tiers)s::text[] is null or name in (
                select name from registered_models where registry = %(registry)s and not is_gone
                    and (tier = any(%(tiers)s) or attested_id is not null)))
        order by name, created_ms desc, version desc) living
    left join registered_models known
        on known.registry = %(registry)s and known.name = living.name and not is_gone
    left join ownership_entries entry on entry.id = known.attested_id
    order by living.name
"""
