"""Reasons that are allowed for each kind of finding."""

from __future__ import annotations

import itertools

import pytest

from deltadex.errors import IllegalStep
from deltadex.findings.kinds import Reason
from deltadex.reviews.lifecycle import Action
from deltadex.reviews.reasons import NEEDS_APPROVAL, Decision, action_of, reasons_for
from deltadex.types import FindingKind


@pytest.mark.parametrize(("kind", "decision"), [*itertools.product(FindingKind, Decision)])
def test_every_kind_has_reasons_for_every_decision(kind: FindingKind, decision: Decision) -> None:
    reasons = reasons_for(kind, decision)
    assert reasons
    for reason in Reason:
        if reason not in reasons:
            with pytest.raises(IllegalStep, match=f"can't be {decision} with the reason {reason}"):
                action_of(kind, decision, reason)
        elif reason in NEEDS_APPROVAL:
            assert action_of(kind, decision, reason) is Action.REQUESTED
        else:
            assert action_of(kind, decision, reason) == Action(decision)


def test_no_dismissal_needs_a_second_person() -> None:
    assert not NEEDS_APPROVAL & {one for kind in FindingKind for one in reasons_for(kind, Decision.DISMISSED)}
