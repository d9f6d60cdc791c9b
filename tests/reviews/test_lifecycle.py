"""The life cycle of a finding, under any order of actions and measurements."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deltadex.errors import IllegalStep
from deltadex.reviews.lifecycle import (
    STEPS,
    Action,
    Basis,
    Review,
    Status,
    automatic_action,
    basis_of,
    tolerance_of,
)
from deltadex.setting_groups import ReviewSettings
from deltadex.types import Finding, FindingKind

AMOUNT = 0.02
BY_THEMSELVES = {Action.RETURNED, Action.CLOSED}
PEOPLE = st.sampled_from(["ada", "ben"])
MEASURES = st.one_of(st.none(), st.sampled_from([0.95, 0.96, 0.98, 1.0]))


class Life(RuleBasedStateMachine):
    """One finding: people act on it at any time, measurements come and go, and each is followed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.review = Review()
        self.basis: Basis | None = Basis(0.95)
        self.approvals: list[tuple[str, str]] = []
        self.claimed = False

    @rule(action=st.sampled_from(sorted(set(Action) - BY_THEMSELVES)), by=PEOPLE)
    def act(self, action: Action, by: str) -> None:
        before = self.review
        with suppress(IllegalStep):
            self.review = before.after(action, by=by, basis=self.basis or Basis())
            self.claimed = self.review.status is Status.FIXED
            if action is Action.APPROVED:
                self.approvals.append((before.requested_by, by))

    @rule(measure=MEASURES, cause=st.sampled_from(["", "other"]), is_gone=st.booleans())
    def measure(self, measure: float | None, cause: str, is_gone: bool) -> None:
        self.basis = None if is_gone else Basis(measure, cause)
        self.claimed = False
        step = automatic_action(self.review, self.basis, is_new=True, amount=AMOUNT)
        if step is not None:
            self.review = self.review.after(step, by="deltadex", basis=self.basis or Basis())

    @rule()
    def follow_again(self) -> None:
        assert automatic_action(self.review, self.basis, is_new=False, amount=AMOUNT) is None or self.basis is None

    @invariant()
    def nobody_approves_their_own(self) -> None:
        assert all(asked and asked != approved for asked, approved in self.approvals)

    @invariant()
    def only_what_is_in_review_waits_for_approval(self) -> None:
        assert not self.review.requested_by or self.review.status is Status.IN_REVIEW

    @invariant()
    def what_is_decided_knows_on_what(self) -> None:
        decided = self.review.status in (Status.ACCEPTED, Status.DISMISSED, Status.FIXED)
        assert decided == (self.review.decided_on is not None)

    @invariant()
    def a_dismissal_holds_only_on_its_number(self) -> None:
        if self.review.status is Status.DISMISSED and self.basis is not None and self.review.decided_on is not None:
            assert not self.review.decided_on.is_moved(self.basis, AMOUNT)

    @invariant()
    def fixed_means_gone_or_claimed(self) -> None:
        if self.review.status is Status.FIXED:
            assert self.basis is None or self.claimed


TestLife = Life.TestCase


@pytest.mark.parametrize(("status", "action"), [*itertools.product(Status, Action)])
def test_a_step_that_is_not_drawn_is_refused(status: Status, action: Action) -> None:
    if action not in STEPS[status]:
        with pytest.raises(IllegalStep, match=f"{status} can't be {action}"):
            Review(status).after(action, by="ada", basis=Basis())


def test_what_retires_a_model_needs_a_second_person() -> None:
    asked = Review().after(Action.REQUESTED, by="ada", basis=Basis(0.97))
    assert (asked.status, asked.requested_by) == (Status.IN_REVIEW, "ada")
    with pytest.raises(IllegalStep, match="ada asked for this and can't approve it too"):
        asked.after(Action.APPROVED, by="ada", basis=Basis(0.97))
    with pytest.raises(IllegalStep, match="waits for approval"):
        asked.after(Action.DISMISSED, by="ben", basis=Basis(0.97))
    approved = asked.after(Action.APPROVED, by="ben", basis=Basis(0.97))
    assert approved == Review(Status.ACCEPTED, Basis(0.97))
    refused = asked.after(Action.REFUSED, by="ben", basis=Basis(0.97))
    assert refused == Review(Status.IN_REVIEW)
    with pytest.raises(IllegalStep, match="Nothing waits"):
        refused.after(Action.APPROVED, by="ben", basis=Basis(0.97))


def test_a_request_survives_being_handed_to_somebody_and_ends_with_the_cause() -> None:
    asked = Review().after(Action.REQUESTED, by="ada", basis=Basis())
    assert asked.after(Action.ASSIGNED, by="ben", basis=Basis()).requested_by == "ada"
    assert asked.after(Action.CLOSED, by="deltadex", basis=Basis()).requested_by == ""


def test_many_small_moves_add_up() -> None:
    review = Review().after(Action.DISMISSED, by="ada", basis=Basis(0.95))
    for measure in (0.955, 0.96, 0.965):
        assert automatic_action(review, Basis(measure), is_new=True, amount=AMOUNT) is None
    assert automatic_action(review, Basis(0.975), is_new=True, amount=AMOUNT) is Action.RETURNED


def test_without_a_number_the_words_count() -> None:
    review = Review().after(Action.DISMISSED, by="ada", basis=Basis(None, "no config.json"))
    assert automatic_action(review, Basis(None, "no config.json"), is_new=True, amount=AMOUNT) is None
    assert automatic_action(review, Basis(None, "truncated"), is_new=True, amount=AMOUNT) is Action.RETURNED


def test_a_claim_holds_until_it_is_measured() -> None:
    claimed = Review().after(Action.FIXED, by="ada", basis=Basis(0.6))
    assert automatic_action(claimed, Basis(0.6), is_new=False, amount=AMOUNT) is None
    assert automatic_action(claimed, Basis(0.6), is_new=True, amount=AMOUNT) is Action.RETURNED


def test_every_kind_has_an_amount() -> None:
    for kind in FindingKind:
        assert tolerance_of(kind, ReviewSettings()) > 0


def test_the_cause_in_words_is_part_of_the_basis() -> None:
    finding = Finding(FindingKind.WRONG_BASE, 1, measure=0.4, evidence={"reason": "other shapes"})
    assert basis_of(finding) == Basis(0.4, "other shapes")
