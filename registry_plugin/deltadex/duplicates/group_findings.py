"""Groups of redundant versions as findings: who is kept, who is retired, and the facts that a decision binds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self

from deltadex.duplicates.group import Group, Redundancy, freed_bytes
from deltadex.duplicates.keeper import NEEDED_ELSEWHERE, Policy, Proposal, Standing, holds
from deltadex.findings.calibration import Threshold
from deltadex.findings.kinds import Concerns, kinds_about
from deltadex.types import Finding, FindingKind, VersionRow

#: Levels whose groups are findings. A version that a later one of its model supersedes needs no decision.
KINDS_OF_LEVELS: Mapping[Redundancy, FindingKind] = {
    Redundancy.EXACT: FindingKind.EXACT_DUPLICATE,
    Redundancy.NEAR: FindingKind.NEAR_DUPLICATE,
    Redundancy.SAME_TASK: FindingKind.SAME_TASK,
}
GROUP_KINDS = kinds_about(Concerns.GROUP)
#: Similarities that differ by less are equal.
_DIGITS = 6


class MemberRole(StrEnum):
    """Role of a version in the decision about its group."""

    KEEP = "keep"
    RETIRE = "retire"
    STAY = "stay"


@dataclass(frozen=True)
class GroupMember:
    """A version of a group, as it was when the group was judged.

    Attributes
    ----------
    version
        `name/version`.
    why
        Why it is kept, or why it stays; empty for what is retired.
    holds
        Why it must not be retired, such as an alias.
    flaws
        Its open findings of high severity, for which it must not be kept.
    """

    id: int
    version: str
    role: MemberRole
    why: str
    weights_digest: str
    weights_bytes: int | None
    aliases: tuple[str, ...]
    holds: tuple[str, ...]
    flaws: tuple[str, ...]


@dataclass(frozen=True)
class GroupPlan:
    """Evidence of a group's finding: its members with their roles.

    Attributes
    ----------
    members
        The oldest first; empty for the evidence of another finding.
    reason
        The decision in one sentence, or why nothing is proposed.
    advice
        What would make a proposal possible; empty if there is one.
    """

    members: tuple[GroupMember, ...]
    reason: str = ""
    advice: str = ""
    freed_bytes: int | None = None

    @classmethod
    def of(cls, evidence: Mapping[str, Any]) -> Self:
        """Read a plan from a finding's evidence; it is empty for any other than a group's."""
        if not evidence.get("members"):
            return cls(())
        members = tuple(
            GroupMember(
                **{
                    **each,
                    "role": MemberRole(each["role"]),
                    **{name: tuple(each[name]) for name in ("aliases", "holds", "flaws")},
                }
            )
            for each in evidence["members"]
        )
        return cls(members, evidence.get("reason", ""), evidence.get("advice", ""), evidence.get("freed_bytes"))

    @classmethod
    def around(
        cls, versions: Sequence[VersionRow], proposal: Proposal, standings: Mapping[int, Standing], policy: Policy
    ) -> Self:
        """Return the plan of a proposal."""
        away = {row.id for row in proposal.retired}
        stay = [row for row in versions if row.id not in away]
        members = tuple(_member(row, proposal, standings.get(row.id, Standing()), policy) for row in versions)
        freed = freed_bytes(proposal.retired, stay) if proposal.retired else None
        return cls(members, _sentence(proposal), proposal.advice, freed)

    def evidence(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @property
    def keeper(self) -> GroupMember | None:
        """The version to keep; None if nothing is proposed."""
        return next((one for one in self.members if one.role is MemberRole.KEEP), None)

    @property
    def targets(self) -> tuple[GroupMember, ...]:
        """The versions to retire."""
        return tuple(one for one in self.members if one.role is MemberRole.RETIRE)

    def role_of(self, version_id: int) -> MemberRole | None:
        """Return the role of a version; None if it is no member."""
        return next((one.role for one in self.members if one.id == version_id), None)

    def remaining(self, now: GroupPlan) -> tuple[GroupMember, ...]:
        """Return the versions to retire that are still in the group."""
        there = {one.id for one in now.members}
        return tuple(one for one in self.targets if one.id in there)

    def joined_by(self, now: GroupPlan) -> str:
        """Return which version has joined the group since, or has other weights; empty if none."""
        digests = {one.id: one.weights_digest for one in self.members}
        for one in now.members:
            if one.id not in digests:
                return f"{one.version} has joined the group"
            if one.weights_digest != digests[one.id]:
                return f"{one.version} has other weights"
        return ""

    def request_voided_by(self, now: GroupPlan) -> str:
        """Return what has changed since this plan was asked for, in words; empty if it can still be approved.

        As `record_decision` compares it by `bound_members` (0019_groups.sql): a request is for all its members, with
        their names and sizes.
        """
        if difference := self.voided_by(now):
            return difference
        if {one.id for one in self.members} != {one.id for one in now.members}:
            return "a version of the group is gone"
        return "" if _facts(self) == _facts(now) else "what is known about a version has changed"

    def voided_by(self, now: GroupPlan) -> str:
        """Return what has changed since this plan was decided, in words; empty if the decision still stands.

        The words name no version that is not in the group any more: who reads them may not see it.

        Members that are gone change nothing: that is how a decision is carried out.
        """
        if joined := self.joined_by(now):
            return joined
        known = {one.id: one for one in self.members}
        for one in now.members:
            if difference := _difference(known[one.id], one):
                return difference
        keeper = self.keeper
        if keeper is not None and keeper.id not in {one.id for one in now.members} and self.remaining(now):
            return "the version to keep is gone"
        return ""


def group_finding(
    group: Group,
    *,
    anchor: int,
    standings: Mapping[int, Standing],
    policy: Policy,
    limit: Threshold | None = None,
    because: Sequence[str] = (),
) -> Finding:
    """Return the finding of a group on a level of `KINDS_OF_LEVELS`.

    Parameters
    ----------
    anchor
        The version at which the finding is stored: it keeps its identity while members come and go.
    limit
        The threshold of the similarity; None for equal weights.
    because
        How the weights of merges and quantised copies are the same, in words.
    """
    plan = GroupPlan.around(group.versions, group.proposal, standings, policy).evidence()
    kind = KINDS_OF_LEVELS[group.kind]
    if limit is None:
        return Finding(kind, anchor, evidence={**plan, **({"because": list(because)} if because else {})})
    numbers = {"norm_ratio": round(group.lowest_norm_ratio, _DIGITS), "threshold_from": limit.note}
    similarity = round(group.lowest_similarity, _DIGITS)
    return Finding(kind, anchor, measure=similarity, threshold=limit.value, evidence={**plan, **numbers})


def _member(row: VersionRow, proposal: Proposal, standing: Standing, policy: Policy) -> GroupMember:
    is_keeper = proposal.keeper is not None and proposal.keeper.id == row.id
    is_retired = any(row.id == each.id for each in proposal.retired)
    return GroupMember(
        id=row.id,
        version=row.label,
        role=MemberRole.KEEP if is_keeper else MemberRole.RETIRE if is_retired else MemberRole.STAY,
        why=proposal.reason if is_keeper else proposal.spared.get(row.id, ""),
        weights_digest=row.weights_digest or "",
        weights_bytes=row.provenance.weights_bytes,
        aliases=tuple(sorted(row.registered.aliases)),
        holds=holds(row, standing, policy),
        flaws=standing.open_high,
    )


def _sentence(proposal: Proposal) -> str:
    if proposal.keeper is None:
        return f"nothing is proposed: {proposal.reason}"
    retired = ", ".join(row.label for row in proposal.retired)
    return f"keep {proposal.keeper.label} ({proposal.reason}), retire {retired}"


def _facts(plan: GroupPlan) -> list[GroupMember]:
    return [replace(one, role=MemberRole.STAY, why="") for one in plan.members]


def _difference(before: GroupMember, now: GroupMember) -> str:
    """Return what else a decision binds and has changed: aliases, use, open findings."""
    if now.aliases != before.aliases:
        names = ", ".join(now.aliases) or "none"
        return f"the aliases of {now.version} have changed: now {names}"
    lost, gained = set(before.holds) - set(now.holds), set(now.holds) - set(before.holds)
    if before.role is MemberRole.KEEP or now.holds:
        lost.discard(NEEDED_ELSEWHERE)  # as when a copy of it is retired: what stays may stay all the same
    if lost or gained:
        return f"{now.version} {' and '.join(now.holds) or 'is in use no more'}"
    if now.flaws != before.flaws:
        found = f"has an open finding ({', '.join(now.flaws)})" if now.flaws else "has no open finding any more"
        return f"{now.version} {found}"
    return ""
