"""Why a finding may be decided as it was: a fixed set for each kind, so that decisions can be counted and compared."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from deltadex.domain import FindingKind
from deltadex.errors import IllegalStep
from deltadex.governance.lifecycle import Action


class Decision(StrEnum):
    """What a person decides: it is so and something follows, it is no problem, or it is put right."""

    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    FIXED = "fixed"


class Reason(StrEnum):
    """What is done about a finding, why nothing has to be, or how it was put right."""

    RETIRE = "retire"
    MERGE = "merge"
    RETRAIN = "retrain"
    ROLL_BACK = "roll_back"
    CORRECT_DECLARATION = "correct_declaration"
    REGISTER_AGAIN = "register_again"
    CLARIFY_LICENSE = "clarify_license"
    INTENDED = "intended"
    INTENDED_COPY = "intended_copy"
    DIFFERENT_PURPOSE = "different_purpose"
    SANDBOX = "sandbox"
    DECLARATION_IS_RIGHT = "declaration_is_right"
    NOT_NEEDED = "not_needed"
    LICENSE_CONFIRMED = "license_confirmed"
    PUT_RIGHT = "put_right"


#: What retires a model needs a second person.
NEEDS_APPROVAL = frozenset({Reason.RETIRE})

_ACCEPTED: Mapping[FindingKind, tuple[Reason, ...]] = {
    FindingKind.EXACT_DUPLICATE: (Reason.RETIRE, Reason.MERGE),
    FindingKind.NEAR_DUPLICATE: (Reason.RETIRE, Reason.MERGE),
    FindingKind.SAME_TASK: (Reason.RETIRE, Reason.MERGE),
    FindingKind.DRIFT: (Reason.ROLL_BACK, Reason.RETRAIN, Reason.RETIRE),
    FindingKind.WRONG_BASE: (Reason.CORRECT_DECLARATION, Reason.REGISTER_AGAIN, Reason.RETIRE),
    FindingKind.LABEL_CONTRADICTED: (Reason.CORRECT_DECLARATION, Reason.RETRAIN, Reason.RETIRE),
    FindingKind.TOO_WEAK: (Reason.RETRAIN, Reason.RETIRE),
    FindingKind.FAILED: (Reason.REGISTER_AGAIN, Reason.RETIRE),
    FindingKind.UNSUPPORTED: (Reason.REGISTER_AGAIN, Reason.CORRECT_DECLARATION, Reason.RETIRE),
    FindingKind.LICENSE: (Reason.CLARIFY_LICENSE, Reason.RETIRE),
}
_DISMISSED: Mapping[FindingKind, tuple[Reason, ...]] = {
    FindingKind.EXACT_DUPLICATE: (Reason.INTENDED_COPY, Reason.SANDBOX),
    FindingKind.NEAR_DUPLICATE: (Reason.DIFFERENT_PURPOSE, Reason.INTENDED_COPY, Reason.SANDBOX),
    FindingKind.SAME_TASK: (Reason.DIFFERENT_PURPOSE, Reason.INTENDED, Reason.SANDBOX),
    FindingKind.DRIFT: (Reason.INTENDED, Reason.SANDBOX),
    FindingKind.WRONG_BASE: (Reason.DECLARATION_IS_RIGHT, Reason.SANDBOX),
    FindingKind.LABEL_CONTRADICTED: (Reason.DECLARATION_IS_RIGHT, Reason.SANDBOX),
    FindingKind.TOO_WEAK: (Reason.INTENDED, Reason.SANDBOX),
    FindingKind.FAILED: (Reason.NOT_NEEDED, Reason.SANDBOX),
    FindingKind.UNSUPPORTED: (Reason.NOT_NEEDED, Reason.SANDBOX),
    FindingKind.LICENSE: (Reason.LICENSE_CONFIRMED, Reason.SANDBOX),
}


def reasons_for(kind: FindingKind, decision: Decision) -> tuple[Reason, ...]:
    """Return the reasons that a decision about a finding of this kind may have, the usual one first."""
    if decision is Decision.FIXED:
        return (Reason.PUT_RIGHT,)
    return (_ACCEPTED if decision is Decision.ACCEPTED else _DISMISSED)[kind]


def action_of(kind: FindingKind, decision: Decision, reason: Reason) -> Action:
    """Return the step that a decision is: itself, or a request where a second person must approve.

    Raises
    ------
    IllegalStep
        The reason is none for this.
    """
    allowed = reasons_for(kind, decision)
    if reason not in allowed:
        raise IllegalStep(
            f"A {kind} finding is not {decision} because of {reason}", hint=f"Reasons for that: {', '.join(allowed)}."
        )
    return Action.REQUESTED if reason in NEEDS_APPROVAL else Action(decision)
