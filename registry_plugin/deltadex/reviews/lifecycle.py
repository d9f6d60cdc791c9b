"""State machine of a finding under review. Pure functions.

The database enforces the same steps (0007_proofs.sql). docs/reviews.md has a diagram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from deltadex.errors import IllegalStep
from deltadex.findings.kinds import KINDS
from deltadex.setting_groups import ReviewSettings
from deltadex.types import Finding, FindingKind


class Status(StrEnum):
    """Review status of a finding."""

    OPEN = "open"
    IN_REVIEW = "in_review"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    FIXED = "fixed"


#: Statuses that need a person's decision.
UNDECIDED = (Status.OPEN, Status.IN_REVIEW)


class Action(StrEnum):
    """An action on a finding; each is one entry of the log. RETURNED and CLOSED are automatic.

    RETURNED voids a decision, or a request, because what it rests on has changed.

    ERASED changes no finding: it records that the comment of an earlier entry was erased.
    """

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
    ERASED = "erased"


#: Actions that say what becomes of a finding.
RULINGS = (Action.REQUESTED, Action.ACCEPTED, Action.APPROVED, Action.DISMISSED, Action.FIXED)
_FROM_UNDECIDED = {
    Action.ASSIGNED: Status.IN_REVIEW,
    Action.RELEASED: Status.OPEN,
    Action.ACCEPTED: Status.ACCEPTED,
    Action.DISMISSED: Status.DISMISSED,
    Action.FIXED: Status.FIXED,
    Action.REQUESTED: Status.IN_REVIEW,
    Action.CLOSED: Status.FIXED,
}
#: Allowed actions by status, and the status that follows. `Review.after` adds the rules for requests.
STEPS: Mapping[Status, Mapping[Action, Status]] = {
    Status.OPEN: _FROM_UNDECIDED,
    Status.IN_REVIEW: _FROM_UNDECIDED
    | {Action.APPROVED: Status.ACCEPTED, Action.REFUSED: Status.IN_REVIEW, Action.RETURNED: Status.OPEN},
    Status.ACCEPTED: {
        Action.ASSIGNED: Status.ACCEPTED,
        Action.RELEASED: Status.ACCEPTED,
        Action.FIXED: Status.FIXED,
        Action.REOPENED: Status.OPEN,
        Action.RETURNED: Status.OPEN,
        Action.CLOSED: Status.FIXED,
    },
    Status.DISMISSED: {Action.REOPENED: Status.OPEN, Action.RETURNED: Status.OPEN},
    Status.FIXED: {Action.REOPENED: Status.OPEN, Action.RETURNED: Status.OPEN},
}


@dataclass(frozen=True)
class Basis:
    """The measurement that a decision is based on.

    Attributes
    ----------
    measure
        The measured number; None if the finding has none.
    cause
        The finding's `evidence["reason"]`, such as the error of a failed version.
    """

    measure: float | None = None
    cause: str = ""

    def is_moved(self, now: Basis, amount: float) -> bool:
        """Return whether the current basis differs from this one by more than the tolerance.

        Parameters
        ----------
        amount
            Tolerance of the measure, in its own unit. Findings without a measure are compared by cause.
        """
        if self.measure is None or now.measure is None:
            return self.measure is not now.measure or self.cause != now.cause
        return abs(self.measure - now.measure) > amount


@dataclass(frozen=True)
class Review:
    """Review state of one finding. A finding is identified by its kind and its versions.

    Attributes
    ----------
    decided_on
        The basis at the time of the decision; None while undecided.
    requested_by
        The person whose request needs a second person's approval; empty if there is no request.
    """

    status: Status = Status.OPEN
    decided_on: Basis | None = None
    requested_by: str = ""

    def after(self, action: Action, *, by: str, basis: Basis) -> Review:
        """Return the review after an action.

        Parameters
        ----------
        by
            The person who acts.
        basis
            The current basis of the finding.

        Raises
        ------
        IllegalStep
            The action is not allowed in this status, or needs another person.
        """
        status = STEPS[self.status].get(action)
        if status is None:
            raise IllegalStep(
                f"A finding that is {self.status} can't be {action}",
                hint="Another person may have decided since: look again. A decision can be reopened.",
            )
        self._require_second_person(action, by)
        requested_by = {Action.REQUESTED: by, Action.ASSIGNED: self.requested_by}.get(action, "")
        is_decided = status in (Status.ACCEPTED, Status.DISMISSED, Status.FIXED)
        is_unchanged = is_decided and status is self.status
        return replace(
            self,
            status=status,
            requested_by=requested_by,
            decided_on=(self.decided_on if is_unchanged else basis) if is_decided else None,
        )

    def _require_second_person(self, action: Action, by: str) -> None:
        is_answer = action in (Action.APPROVED, Action.REFUSED)
        ends_request = is_answer or (action is Action.RETURNED and self.status is Status.IN_REVIEW)
        if ends_request and not self.requested_by:
            raise IllegalStep("Nothing waits for approval here", hint="Decide instead.")
        if action is Action.APPROVED and self.requested_by.casefold() == by.casefold():
            raise IllegalStep(f"{by} asked for this and can't approve it too", hint="Ask a second person.")
        if self.requested_by and not ends_request and action not in (Action.ASSIGNED, Action.CLOSED):
            raise IllegalStep(
                f"{self.requested_by}'s request waits for approval", hint="Approve it or refuse it, then decide."
            )


def automatic_action(review: Review, now: Basis | None, *, is_new: bool, amount: float) -> Action | None:
    """Return the automatic action that follows from a measurement; None if nothing changes.

    Parameters
    ----------
    now
        The current basis; None if the finding is no longer found.
    is_new
        True if it was measured after the latest change of status.
    amount
        Tolerance as in `Basis.is_moved`, from `tolerance_of`.
    """
    if now is None:
        return Action.CLOSED if Action.CLOSED in STEPS[review.status] else None
    if review.status is Status.FIXED and is_new:
        return Action.RETURNED
    if review.status is Status.DISMISSED and review.decided_on is not None and review.decided_on.is_moved(now, amount):
        return Action.RETURNED
    return None


def basis_of(finding: Finding) -> Basis:
    """Return the basis of a decision about a finding."""
    return Basis(finding.measure, str(finding.evidence.get("reason", "")))


def tolerance_of(kind: FindingKind, settings: ReviewSettings) -> float:
    """Return how far the measure of a dismissed finding may move before the finding reopens, in its own unit."""
    amount: float = getattr(settings, KINDS[kind].tolerance)
    return amount
