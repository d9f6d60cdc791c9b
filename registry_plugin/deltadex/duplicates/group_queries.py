"""Queries of the findings about groups of redundant versions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg.types.json import Jsonb

from deltadex.duplicates.group_findings import GROUP_KINDS, GroupPlan
from deltadex.store.database import Transaction
from deltadex.types import Finding, FindingKind

#: Kinds whose pairs are judged on arrival.
ON_ARRIVAL = (FindingKind.EXACT_DUPLICATE, FindingKind.NEAR_DUPLICATE)


@dataclass(frozen=True)
class StoredGroup:
    """A group's finding as it is stored."""

    finding: Finding
    recipe_id: int | None

    @property
    def kind(self) -> FindingKind:
        """Its kind, which says how its members are alike."""
        return self.finding.kind

    @property
    def key(self) -> tuple[FindingKind, int]:
        """Its identity: its kind, and the version at which it is stored."""
        return self.kind, self.finding.version_id

    @cached_property
    def plan(self) -> GroupPlan:
        """Its members and their roles."""
        return GroupPlan.of(self.finding.evidence)

    @cached_property
    def ids(self) -> frozenset[int]:
        """Its members."""
        return frozenset(one.id for one in self.plan.members)


def lock(tx: Transaction, registry: str) -> None:
    """Lock the groups of a registry until the transaction ends: what is read here is replaced as a whole."""
    tx.execute("select pg_advisory_xact_lock(hashtextextended('groups:' || %s, 0))", [registry])


def stored_groups(
    tx: Transaction, registry: str, *, kinds: Collection[FindingKind] = GROUP_KINDS, name: str | None = None
) -> list[StoredGroup]:
    """Return the groups of a registry, optionally only those with a version of one registered model."""
    rows = tx.execute(
        """
        select kind, model_version_id, measure, threshold, evidence, recipe_id from findings
        where kind = any(%(kinds)s) and evidence ? 'members'
            and model_version_id in (select id from model_versions where registry = %(registry)s)
            and (%(name)s::text is null or member_ids(evidence) && array(
                select id from model_versions where registry = %(registry)s and name = %(name)s))
        order by id
        """,
        {"registry": registry, "kinds": list(kinds), "name": name},
    )
    return [
        StoredGroup(Finding(FindingKind(kind), anchor, None, measure, threshold, evidence), recipe_id)
        for kind, anchor, measure, threshold, evidence, recipe_id in rows
    ]


def replace(tx: Transaction, before: Sequence[StoredGroup], after: Sequence[StoredGroup]) -> None:
    """Replace groups; those whose numbers and members are unchanged stay as they are."""
    known, kept = {one.key: one for one in before}, {one.key for one in after}
    with tx.cursor() as cursor:
        cursor.executemany(
            "delete from findings where kind = %s and model_version_id = %s and other_id is null",
            sorted(known.keys() - kept),
        )
        cursor.executemany(
            """
            insert into findings (kind, model_version_id, measure, threshold, evidence, recipe_id)
            values (%s, %s, %s, %s, %s, %s)
            on conflict (kind, model_version_id, other_id) do update set
                measure = excluded.measure, threshold = excluded.threshold, evidence = excluded.evidence,
                recipe_id = excluded.recipe_id, measured_at = now()
            """,
            [
                (one.kind, one.finding.version_id, one.finding.measure, one.finding.threshold,
                 Jsonb(dict(one.finding.evidence)), one.recipe_id)
                for one in after
                if known.get(one.key) != one
            ],
        )  # fmt: skip


def have_pairs(tx: Transaction, ids: Collection[int]) -> bool:
    """Return True if any of these versions has the same weights as another one, or is its near duplicate."""
    row = tx.execute(
        """
        select exists (select from findings where kind = any(%(pairs)s) and other_id is not null
            and (model_version_id = any(%(ids)s) or other_id = any(%(ids)s)))
        """,
        {"ids": list(ids), "pairs": list(ON_ARRIVAL)},
    ).fetchone()
    return row == (True,)


def neighborhood(tx: Transaction, registry: str, ids: Collection[int], *, most: int) -> list[int] | None:
    """Return the versions that pairs, or a common model, connect with some versions; None if they exceed `most`.

    A version of the same model counts, since a later version stands for the earlier ones that it supersedes.
    """
    found = set(ids)
    latest = found
    while latest:
        rows = tx.execute(
            """
            select other_id from findings where kind = any(%(pairs)s) and model_version_id = any(%(ids)s)
                and other_id is not null
            union select model_version_id from findings where kind = any(%(pairs)s) and other_id = any(%(ids)s)
            union select sibling.id from model_versions this join model_versions sibling using (registry, name)
                where this.id = any(%(ids)s) and registry = %(registry)s and sibling.state <> 'deleted'
            """,
            {
                "ids": list(latest),
                "pairs": list(ON_ARRIVAL),
                "registry": registry,
            },
        )
        latest = {version_id for (version_id,) in rows} - found
        found |= latest
        if len(found) > most:
            return None
    return sorted(found)
