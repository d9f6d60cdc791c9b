"""Findings of groups, made after a round and around an arrival."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from deltadex.duplicates import group_queries as stored
from deltadex.duplicates.group import Redundancy, exact_group
from deltadex.duplicates.group_findings import KINDS_OF_LEVELS, group_finding
from deltadex.duplicates.group_queries import StoredGroup
from deltadex.duplicates.keeper import Policy
from deltadex.duplicates.overview import candidates
from deltadex.duplicates.pairs import connected_groups
from deltadex.duplicates.replan import NOBODY
from deltadex.duplicates.standing_queries import standings
from deltadex.findings import queries as findings
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind

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
    if not before and not stored.have_pairs(tx, around):
        return  # most arrivals: there is nothing to compare
    after = [*_exact(tx, settings, around), *_alike(tx, settings, around)]
    occupied = {one.key for one in everywhere}
    stored.replace(tx, before, _anchored(before, [one for one in after if one.kind in stored.ON_ARRIVAL], occupied))


def _exact(tx: Transaction, settings: Settings, ids: Sequence[int] | None = None) -> list[StoredGroup]:
    """Return the groups of equal weights, whatever their recipes."""
    known = [
        one
        for one in findings.listing(tx, settings.registry, kinds=[FindingKind.EXACT_DUPLICATE])
        if one.other is not None and (ids is None or one.version.id in ids)
    ]
    rows = {row.id: row for one in known for row in (one.version, one.other) if row is not None and row.is_active}
    of, policy = standings(tx, NOBODY, settings, list(rows.values())), Policy.of(settings)
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
        for of_recipe in candidates(tx, NOBODY, settings, ids=ids)
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
            keys = ((one.kind, member.id) for member in one.plan.members)
            key = next((each for each in keys if each not in taken), None)
        if key is None:  # all its members are keys of groups that they have left: the next round has some of them free
            continue
        free.pop(key, None)
        taken.add(key)
        anchored.append(replace(one, finding=replace(one.finding, version_id=key[1])))
    return anchored
