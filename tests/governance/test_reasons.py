"""Which reasons decide which findings."""

from __future__ import annotations

import itertools

import pytest

from deltadex.domain import FindingKind
from deltadex.errors import IllegalStep
from deltadex.governance.lifecycle import Action
from deltadex.governance.reasons import NEEDS_APPROVAL, Decision, Reason, action_of, reasons_for


@pytest.mark.parametrize(("kind", "decision"), [*itertools.product(FindingKind, Decision)])
def test_every_kind_has_reasons_for_every_decision(kind: FindingKind, decision: Decision) -> None:
    reasons = reasons_for(kind, decision)
    assert reasons
    for reason in Reason:
        if reason not in reasons:
            with pytest.raises(IllegalStep, match=f"not {decision} because of {reason}"):
                action_of(kind, decision, reason)
        elif reason in NEEDS_APPROVAL:
            assert action_of(kind, decision, reason) is Action.REQUESTED
        else:
            assert action_of(kind, decision, reason) == Action(decision)


def test_no_dismissal_needs_a_second_person() -> None:
    assert not NEEDS_APPROVAL & {one for kind in FindingKind for one in reasons_for(kind, Decision.DISMISSED)}
