"""Reasons for decisions: a fixed set for each kind of finding, so that decisions can be counted and compared."""

from __future__ import annotations

from enum import StrEnum

from deltadex.errors import IllegalStep
from deltadex.findings.kinds import KINDS, Reason
from deltadex.reviews.lifecycle import Action
from deltadex.types import FindingKind


class Decision(StrEnum):
    """A person's decision: the finding is a problem, it is no problem, or the problem is fixed."""

    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    FIXED = "fixed"


#: Reasons that need a second person's approval: they retire a model.
NEEDS_APPROVAL = frozenset({Reason.RETIRE})


def reasons_for(kind: FindingKind, decision: Decision) -> tuple[Reason, ...]:
    """Return the allowed reasons of a decision about a finding of this kind, the most common one first."""
    if decision is Decision.FIXED:
        return (Reason.PUT_RIGHT,)
    return KINDS[kind].accepted if decision is Decision.ACCEPTED else KINDS[kind].dismissed


def action_of(kind: FindingKind, decision: Decision, reason: Reason) -> Action:
    """Return the action of a decision: the decision itself, or a request if a second person must approve.

    Raises
    ------
    IllegalStep
        The reason is not allowed for this kind and decision.
    """
    allowed = reasons_for(kind, decision)
    if reason not in allowed:
        raise IllegalStep(
            f"A {kind} finding can't be {decision} with the reason {reason}",
            hint=f"Allowed reasons: {', '.join(allowed)}.",
        )
    return Action.REQUESTED if reason in NEEDS_APPROVAL else Action(decision)
