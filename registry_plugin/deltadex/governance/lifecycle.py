"""The life of a finding. Pure: what people and measurements may do to it, and what becomes of it then.

The database refuses the same steps (0007_reviews.sql), for whoever goes past this module. docs/reviews.md draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from deltadex.domain import Finding, FindingKind
from deltadex.errors import IllegalStep
from deltadex.settings import ReviewSettings


class Status(StrEnum):
    """Where a finding stands with people."""

    OPEN = "open"
    IN_REVIEW = "in_review"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    FIXED = "fixed"


#: What waits for a person.
UNDECIDED = (Status.OPEN, Status.IN_REVIEW)


class Action(StrEnum):
    """What was done to a finding; each is one entry of the log. The last two happen by themselves."""

    ASSIGNED = "assigned"
    RELEASED = "released"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    FIXED = "fixed"
    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    REOPENED = "reopened"
    RETURNED = "returned"
    CLOSED = "closed"


class Severity(StrEnum):
    """How much depends on a finding."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


_FROM_UNDECIDED = {
    Action.ASSIGNED: Status.IN_REVIEW,
    Action.RELEASED: Status.OPEN,
    Action.ACCEPTED: Status.ACCEPTED,
    Action.DISMISSED: Status.DISMISSED,
    Action.FIXED: Status.FIXED,
    Action.REQUESTED: Status.IN_REVIEW,
    Action.CLOSED: Status.FIXED,
}
#: The whole state machine, but for requests: see `Review.after`.
STEPS: Mapping[Status, Mapping[Action, Status]] = {
    Status.OPEN: _FROM_UNDECIDED,
    Status.IN_REVIEW: _FROM_UNDECIDED | {Action.APPROVED: Status.ACCEPTED, Action.REFUSED: Status.IN_REVIEW},
    Status.ACCEPTED: {
        Action.ASSIGNED: Status.ACCEPTED,
        Action.RELEASED: Status.ACCEPTED,
        Action.FIXED: Status.FIXED,
        Action.REOPENED: Status.OPEN,
        Action.CLOSED: Status.FIXED,
    },
    Status.DISMISSED: {Action.REOPENED: Status.OPEN, Action.RETURNED: Status.OPEN},
    Status.FIXED: {Action.REOPENED: Status.OPEN, Action.RETURNED: Status.OPEN},
}

_SEVERITY = {
    FindingKind.EXACT_DUPLICATE: Severity.MEDIUM,
    FindingKind.NEAR_DUPLICATE: Severity.LOW,
    FindingKind.SAME_TASK: Severity.LOW,
    FindingKind.DRIFT: Severity.MEDIUM,
    FindingKind.WRONG_BASE: Severity.HIGH,
    FindingKind.LABEL_CONTRADICTED: Severity.MEDIUM,
    FindingKind.TOO_WEAK: Severity.LOW,
    FindingKind.FAILED: Severity.HIGH,
    FindingKind.UNSUPPORTED: Severity.LOW,
    FindingKind.LICENSE: Severity.HIGH,
}


@dataclass(frozen=True)
class Basis:
    """What a decision rests on: the number, and in words where there is one.

    Attributes
    ----------
    measure
        The number; None where the finding has none.
    cause
        The finding's `evidence["reason"]`, such as the error of a version that failed.
    """

    measure: float | None = None
    cause: str = ""

    def is_moved(self, now: Basis, amount: float) -> bool:
        """Whether another basis is no longer the one that a person decided on.

        Parameters
        ----------
        amount
            By how much the number may differ, in its own unit. Where there is none, the words count.
        """
        if self.measure is None or now.measure is None:
            return self.measure is not now.measure or self.cause != now.cause
        return abs(self.measure - now.measure) > amount


@dataclass(frozen=True)
class Review:
    """What people made of one finding, which is the same one for as long as its kind and its versions are.

    Attributes
    ----------
    decided_on
        The basis at the time of the decision that it stands on; None while it is undecided.
    requested_by
        Who asked for what a second person must approve; empty while nothing waits for approval.
    """

    status: Status = Status.OPEN
    decided_on: Basis | None = None
    requested_by: str = ""

    def after(self, action: Action, *, by: str, basis: Basis) -> Review:
        """Return the review after a step.

        Parameters
        ----------
        by
            Whose step it is.
        basis
            What the finding rests on now.

        Raises
        ------
        IllegalStep
            There is no such step from here, or it needs somebody else.
        """
        status = STEPS[self.status].get(action)
        if status is None:
            raise IllegalStep(
                f"A finding that is {self.status} can't be {action}",
                hint="Somebody else may have decided meanwhile: look again. What is decided can be reopened.",
            )
        self._require_second_person(action, by)
        requested_by = {Action.REQUESTED: by, Action.ASSIGNED: self.requested_by}.get(action, "")
        is_decided = status in (Status.ACCEPTED, Status.DISMISSED, Status.FIXED)
        keeps = is_decided and status is self.status
        return replace(
            self,
            status=status,
            requested_by=requested_by,
            decided_on=(self.decided_on if keeps else basis) if is_decided else None,
        )

    def _require_second_person(self, action: Action, by: str) -> None:
        answers = action in (Action.APPROVED, Action.REFUSED)
        if answers and not self.requested_by:
            raise IllegalStep("Nothing waits for approval here", hint="Decide instead.")
        if action is Action.APPROVED and self.requested_by == by:
            raise IllegalStep(f"{by} asked for this and can't approve it too", hint="Ask a second person.")
        if self.requested_by and not answers and action not in (Action.ASSIGNED, Action.CLOSED):
            raise IllegalStep(
                f"{self.requested_by}'s request waits for approval", hint="Approve it or refuse it, then decide."
            )


def by_itself(review: Review, now: Basis | None, *, is_new: bool, amount: float) -> Action | None:
    """Return what a measurement does to a finding.

    Parameters
    ----------
    now
        What the finding rests on, None where its cause is gone.
    is_new
        It was measured after the review's last step.
    amount
        As in `Basis.is_moved`; see `tolerated`.
    """
    if now is None:
        return Action.CLOSED if Action.CLOSED in STEPS[review.status] else None
    if review.status is Status.FIXED and is_new:
        return Action.RETURNED
    if review.status is Status.DISMISSED and review.decided_on is not None and review.decided_on.is_moved(now, amount):
        return Action.RETURNED
    return None


def basis_of(finding: Finding) -> Basis:
    """Return what a decision about a finding would rest on."""
    return Basis(finding.measure, str(finding.evidence.get("reason", "")))


def tolerated(kind: FindingKind, settings: ReviewSettings) -> float:
    """Return by how much the number of a dismissed finding may move before the finding is open again."""
    return settings.reopen_strength if kind is FindingKind.TOO_WEAK else settings.reopen_cosine


def severity_of(finding: Finding) -> Severity:
    """Return how much depends on a finding: by its kind, and drift twice as long as the threshold is high."""
    far = finding.measure is not None and finding.threshold is not None and finding.measure >= 2 * finding.threshold
    return Severity.HIGH if finding.kind is FindingKind.DRIFT and far else _SEVERITY[finding.kind]
