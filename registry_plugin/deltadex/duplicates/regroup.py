"""Findings of groups, kept up to date: after a round, around an arrival, and when facts about members change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from deltadex.access import Person, Role
from deltadex.duplicates import group_queries as stored
from deltadex.duplicates.group_findings import KINDS_OF_LEVELS, GroupPlan, group_finding
from deltadex.duplicates.group_queries import StoredGroup
from deltadex.duplicates.groups import Redundancy, exact_group
from deltadex.duplicates.keeper import propose
from deltadex.duplicates.overview import candidates, policy_of
from deltadex.duplicates.pairs import connected_groups
from deltadex.duplicates.standing_queries import standings
from deltadex.findings import queries as findings
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow
from deltadex.versions.queries import by_ids

#: What is stored is read by people with different rights: it names no model outside the group.
_NOBODY = Person("deltadex", Role.VIEWER, ())
#: Versions around an arrival that are grouped at once; where there are more, the next round does it.
_MOST_AROUND = 500


def regroup(tx: Transaction, settings: Settings) -> None:
    """Group all versions of a registry again."""
    stored.lock(tx, settings.registry)
    before = stored.stored_groups(tx, settings.registry)
    after = [*_exact(tx, settings), *_alike(tx, settings, None)]
    stored.replace(tx, before, _anchored(before, after))


def regroup_around(tx: Transaction, settings: Settings, ids: Collection[int]) -> None:
    """Group the versions around some that have just arrived; those for the same task are left to the next round."""
    stored.lock(tx, settings.registry)
    around = stored.neighborhood(tx, settings.registry, ids, most=_MOST_AROUND) if ids else None
    if around is None:
        return
    everywhere = stored.stored_groups(tx, settings.registry, kinds=stored.ON_ARRIVAL)
    before = [one for one in everywhere if not one.ids.isdisjoint(around)]
    after = [*_exact(tx, settings, around), *_alike(tx, settings, around)]
    occupied = {one.key for one in everywhere}
    stored.replace(tx, before, _anchored(before, [one for one in after if one.kind in stored.ON_ARRIVAL], occupied))


def replan(tx: Transaction, settings: Settings, *, name: str | None = None) -> None:
    """Judge again whom each group keeps and retires; members that are gone are left out.

    Parameters
    ----------
    name
        Only groups with a version of this registered model; None for all.
    """
    stored.lock(tx, settings.registry)
    before = stored.stored_groups(tx, settings.registry, name=name)
    rows = _present(tx, {each for one in before for each in one.ids})
    of = standings(tx, _NOBODY, settings, list(rows.values()))
    after = []
    for one in before:
        members = [rows[member.id] for member in one.plan.members if member.id in rows]
        if len(members) > 1:
            proposal, _ = propose(members, of, policy_of(settings))
            plan = GroupPlan.around(members, proposal, of, policy_of(settings)).evidence()
            finding = replace(one.finding, evidence={**one.finding.evidence, **plan})
            after.append(replace(one, finding=finding))
    stored.replace(tx, before, after)


def plan_of(tx: Transaction, settings: Settings, members: Collection[int], *, keeper: int | None) -> GroupPlan:
    """Return the plan for a group by the facts of this moment, with the keeper that a reviewer has chosen.

    A plan without a keeper says why nobody can be kept, or nothing retired.
    """
    rows = sorted(_present(tx, members).values(), key=lambda row: row.registered.ref.age)
    of, policy = standings(tx, _NOBODY, settings, rows), policy_of(settings)
    chosen = next((row for row in rows if row.id == keeper), None)
    proposal, _ = propose(rows, of, policy, chosen=chosen)
    return GroupPlan.around(rows, proposal, of, policy)


def _present(tx: Transaction, ids: Collection[int]) -> Mapping[int, VersionRow]:
    return {each: row for each, row in by_ids(tx, sorted(ids)).items() if row.is_active}


def _exact(tx: Transaction, settings: Settings, ids: Sequence[int] | None = None) -> list[StoredGroup]:
    """Return the groups of equal weights, whatever their recipes."""
    known = [
        one
        for one in findings.listing(tx, settings.registry, kinds=[FindingKind.EXACT_DUPLICATE])
        if one.other is not None and (ids is None or one.version.id in ids)
    ]
    rows = {row.id: row for one in known for row in (one.version, one.other) if row is not None and row.is_active}
    of, policy = standings(tx, _NOBODY, settings, list(rows.values())), policy_of(settings)
    pairs = [(one.version.id, one.other.id) for one in known if one.other]
    groups = []
    for members in connected_groups(pair for pair in pairs if rows.keys() >= set(pair)):
        group = exact_group([rows[each] for each in members], of, policy)
        because = {str(one.finding.evidence.get("reason", "")) for one in known if one.version.id in members} - {""}
        finding = group_finding(group, anchor=members[0], standings=of, policy=policy, because=sorted(because))
        groups.append(StoredGroup(finding, None))
    return groups


def _alike(tx: Transaction, settings: Settings, ids: Sequence[int] | None) -> list[StoredGroup]:
    """Return the groups of near duplicates and of models for the same task."""
    return [
        StoredGroup(
            group_finding(
                group,
                anchor=group.versions[0].id,
                standings=of_recipe.standings,
                policy=of_recipe.policy,
                limit=of_recipe.limit_of(group.kind),
            ),
            of_recipe.recipe.id,
        )
        for of_recipe in candidates(tx, _NOBODY, settings, ids=ids)
        for group in of_recipe.unmasked()
        if group.kind in KINDS_OF_LEVELS and group.kind is not Redundancy.EXACT
    ]


def _anchored(
    before: Sequence[StoredGroup], after: Sequence[StoredGroup], occupied: Collection[tuple[FindingKind, int]] = ()
) -> list[StoredGroup]:
    """Let each group continue the one of its kind with which it shares most members, under that one's identity.

    Parameters
    ----------
    occupied
        Keys that a new group can't take.
    """
    free, taken = {one.key: one.ids for one in before}, {*occupied, *(one.key for one in before)}
    anchored = []
    for one in sorted(after, key=lambda group: -len(group.ids)):
        former = [key for key, ids in free.items() if key[0] is one.kind and not ids.isdisjoint(one.ids)]
        key = max(former, key=lambda each: len(free[each] & one.ids), default=None)
        if key is None:
            key = next(each for member in one.plan.members if (each := (one.kind, member.id)) not in taken)
        free.pop(key, None)
        taken.add(key)
        anchored.append(replace(one, finding=replace(one.finding, version_id=key[1])))
    return anchored
