"""Findings of groups, judged again when facts about their members change. Needs no vectors, and no SciPy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from deltadex.access import Person, Role
from deltadex.duplicates import group_queries as stored
from deltadex.duplicates.group_findings import GroupPlan
from deltadex.duplicates.keeper import Policy, propose
from deltadex.duplicates.standing_queries import standings
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions.queries import by_ids

#: What is stored is read by people with different rights: it names no model outside the group.
NOBODY = Person("deltadex", Role.VIEWER, ())


def replan(tx: Transaction, settings: Settings, *, name: str | None = None) -> None:
    """Judge again whom each group keeps and retires; members that are gone are left out.

    Parameters
    ----------
    name
        Only groups with a version of this registered model; None for all.
    """
    stored.lock(tx, settings.registry)
    before = stored.stored_groups(tx, settings.registry, name=name)
    rows = present(tx, {each for one in before for each in one.ids})
    of = standings(tx, NOBODY, settings, list(rows.values()))
    after = []
    for one in before:
        members = [rows[member.id] for member in one.plan.members if member.id in rows]
        if len(members) > 1:
            proposal, _ = propose(members, of, Policy.of(settings))
            plan = GroupPlan.around(members, proposal, of, Policy.of(settings)).evidence()
            finding = replace(one.finding, evidence={**one.finding.evidence, **plan})
            after.append(replace(one, finding=finding))
    stored.replace(tx, before, after)


def plan_of(tx: Transaction, settings: Settings, members: Collection[int], *, keeper: int | None) -> GroupPlan:
    """Return the plan for a group by the facts of this moment, with the keeper that a reviewer has chosen.

    A plan without a keeper says why nobody can be kept, or nothing retired.
    """
    rows = sorted(present(tx, members).values(), key=lambda row: row.registered.ref.age)
    of, policy = standings(tx, NOBODY, settings, rows), Policy.of(settings)
    chosen = next((row for row in rows if row.id == keeper), None)
    proposal, _ = propose(rows, of, policy, chosen=chosen)
    return GroupPlan.around(rows, proposal, of, policy)


def present(tx: Transaction, ids: Collection[int]) -> Mapping[int, VersionRow]:
    """Return the versions by id that the registry still has, and that are not archived."""
    return {each: row for each, row in by_ids(tx, sorted(ids)).items() if row.is_active}
