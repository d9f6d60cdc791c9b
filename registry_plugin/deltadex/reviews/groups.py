"""Decisions about groups of redundant versions: a reviewer's own choice, and what voids a decision. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from deltadex.duplicates.group import Group
from deltadex.duplicates.group_findings import GROUP_KINDS, KINDS_OF_LEVELS, GroupMember, GroupPlan
from deltadex.errors import FindingChanged, IllegalStep
from deltadex.reviews.lifecycle import Action, Status
from deltadex.reviews.queries import LOOK_AGAIN, ReviewRow
from deltadex.types import FindingKind


def is_group(row: ReviewRow) -> bool:
    """Return True for a finding about a group of versions."""
    return row.finding.kind in GROUP_KINDS and bool(row.finding.evidence.get("members"))


def by_members(rows: Iterable[ReviewRow]) -> dict[tuple[FindingKind, frozenset[int]], ReviewRow]:
    """Return the findings about groups by their kind and the ids of their members."""
    return {
        (row.finding.kind, frozenset(version.id for version in row.members)): row
        for row in rows
        if row.members and row.is_found
    }


def finding_of(group: Group, rows: Mapping[tuple[FindingKind, frozenset[int]], ReviewRow]) -> ReviewRow | None:
    """Return the finding of a group, from the result of `by_members`; None if it has none, as in a preview."""
    kind = KINDS_OF_LEVELS.get(group.kind)
    return rows.get((kind, frozenset(row.id for row in group.versions))) if kind else None


def require_safe(review_id: int, plan: GroupPlan) -> GroupMember:
    """Return the keeper; raise IllegalStep if a plan retires nothing: the rule that stands in the way is its reason."""
    if plan.keeper is None:
        raise IllegalStep(f"Finding {review_id}: {plan.reason.removeprefix('nothing is proposed: ')}", hint=plan.advice)
    return plan.keeper


def require_unchanged(row: ReviewRow, now: GroupPlan) -> None:
    """Raise FindingChanged if a group is not as its finding shows it, by the facts of this moment."""
    if difference := GroupPlan.of(row.finding.evidence).voided_by(now):
        raise FindingChanged(f"Finding {row.id} has changed: {difference}", hint=LOOK_AGAIN)


def require_same_roles(row: ReviewRow, now: GroupPlan) -> None:
    """Raise FindingChanged if what was asked for can't be asked for any more, by the rules and facts of this moment."""
    if [(one.id, one.role) for one in row.plan.members] != [(one.id, one.role) for one in now.members]:
        raise FindingChanged(f"Finding {row.id} has changed: {now.reason}", hint="Refuse the request, then ask again.")


def require_consistent(row: ReviewRow, plan: GroupPlan, others: Iterable[ReviewRow]) -> None:
    """Raise IllegalStep if another decision, or request, retires the version to keep, or keeps one to retire.

    A version can be in one group per level: of equal weights, of near duplicates, of one task.
    """
    for other in others:
        if other.id == row.id or not other.is_retiring:
            continue
        kept, retired = other.plan.keeper, {one.id for one in other.plan.targets}
        clash = next((one for one in plan.targets if kept is not None and one.id == kept.id), None)
        if plan.keeper is not None and plan.keeper.id in retired:
            clash = plan.keeper
        if clash is not None:
            raise IllegalStep(
                f"Finding {row.id} would contradict finding {other.id} about {clash.version}",
                hint="Keep the same version in both, or reopen the other one first.",
            )


def automatic_step(
    row: ReviewRow, *, active: Collection[int], tolerance: float, is_new: bool
) -> tuple[Action, str] | None:
    """Return the step that follows from a group's change, with the reason in words; None if its decision stands.

    A decision to retire ends by itself once none of its targets is left. A dismissed group returns with a new member,
    or when its similarity has moved by more than the tolerance.

    Parameters
    ----------
    active
        The versions to retire, by the latest decision of any group, that are neither deleted nor archived.
    """
    status, now = row.review.status, GroupPlan.of(row.finding.evidence)
    decided = row.ruling.plan if row.ruling is not None else GroupPlan(())
    difference = decided.voided_by(now) if decided.members else ""
    if status is Status.IN_REVIEW and row.review.requested_by and (void := decided.request_voided_by(now)):
        return Action.RETURNED, void
    remaining = decided.remaining(now)
    if (
        status is Status.ACCEPTED
        and row.is_retiring
        and len(remaining) < sum(one.id in active for one in decided.targets)
    ):
        return Action.RETURNED, "a version to retire is not redundant any more"
    if status is Status.ACCEPTED and row.is_retiring and not remaining:
        return Action.CLOSED, ""
    if status is Status.ACCEPTED and difference:
        return Action.RETURNED, difference
    if status is Status.FIXED and is_new and (difference or not row.is_retiring or remaining):
        return Action.RETURNED, difference
    if status is Status.DISMISSED and (joined := decided.joined_by(now)):
        return Action.RETURNED, joined
    basis = row.review.decided_on
    if status is Status.DISMISSED and basis is not None and None not in (basis.measure, row.finding.measure):
        moved = abs((basis.measure or 0.0) - (row.finding.measure or 0.0))
        return (Action.RETURNED, f"the similarity has moved by {moved:.3f}") if moved > tolerance else None
    return None
