"""Review of findings on a real Postgres, from the finding to the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from deltadex.access import HIDDEN, Person, Role
from deltadex.errors import AccessDenied, FindingChanged, IllegalStep
from deltadex.findings.kinds import Reason, Severity
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import Action, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.reasons import Decision
from deltadex.setting_groups import ReviewSettings, RuleSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import REGISTRY, discovered, embedded, grouped

ADA = Person("ada", Role.APPROVER)
BEN = Person("ben", Role.APPROVER)
EVE = Person("eve", Role.REVIEWER, ("support",))
NEAR, DRIFT, WEAK = FindingKind.NEAR_DUPLICATE, FindingKind.DRIFT, FindingKind.TOO_WEAK


@pytest.fixture
def settings() -> Settings:
    return Settings(registry=REGISTRY)


def pair(tx: Transaction, *names: str, tags: dict[str, str] | None = None) -> tuple[int, int]:
    older, newer = (embedded(tx, name, np.ones(3), tags=tags or {}) for name in names or ("support", "mail"))
    return newer, older


@dataclass(frozen=True)
class Changes:
    """Ids of the reviews that one call of `follow` changed, as listing and log show them."""

    opened: tuple[int, ...] = ()
    returned: tuple[int, ...] = ()
    closed: tuple[int, ...] = ()
    delegated: tuple[int, ...] = ()


def follow(tx: Transaction, settings: Settings, *, name: str | None = None) -> Changes:
    known = {row.id for row in reviews.listing(tx, ADA, settings)}
    last = max((entry.id for entry in reviews.log(tx, ADA, settings)), default=0)
    reviews.follow(tx, settings, name=name)
    new = [entry for entry in reviews.log(tx, ADA, settings) if entry.id > last]
    return Changes(
        opened=tuple(row.id for row in reviews.listing(tx, ADA, settings) if row.id not in known),
        returned=tuple(entry.review_id for entry in new if entry.action is Action.RETURNED),
        closed=tuple(entry.review_id for entry in new if entry.action is Action.CLOSED),
        delegated=tuple(entry.review_id for entry in new if entry.rule),
    )


def found(tx: Transaction, settings: Settings, ids: tuple[int, int], measure: float | None = 0.96) -> Changes:
    """Let a measurement find that two versions are near duplicates, or that they are none."""
    grouped(tx, ids, measure)
    return follow(tx, settings)


def only(tx: Transaction, settings: Settings, person: Person = ADA) -> ReviewRow:
    [row] = reviews.listing(tx, person, settings)
    return row


def seen(*rows: ReviewRow) -> dict[int, int]:
    return {row.id: row.revision for row in rows}


def dismiss(tx: Transaction, settings: Settings, *rows: ReviewRow, person: Person = ADA) -> None:
    reviews.decide(
        tx, person, settings, seen(*rows), decision=Decision.DISMISSED, reason=Reason.DIFFERENT_PURPOSE, comment="no"
    )


def request(tx: Transaction, settings: Settings, person: Person = ADA) -> list[Action]:
    row = only(tx, settings)
    return reviews.decide(
        tx, person, settings, seen(row), decision=Decision.ACCEPTED, reason=Reason.RETIRE, comment="redundant"
    )


def test_a_finding_is_the_same_one_when_it_goes_and_comes_back(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        ids = pair(tx, tags={"team": "search"})
        opened = found(tx, settings, ids).opened
        first = only(tx, settings)
        assert (first.id, first.review.status, first.severity) == (opened[0], Status.OPEN, Severity.LOW)
        assert (first.owner, first.finding.measure, first.is_found) == ("search", 0.96, True)
        assert (first.due_at - first.first_seen).days == 90
    with database.transaction() as tx:
        assert found(tx, settings, ids, None).closed == opened
        gone = only(tx, settings)
        assert (gone.review.status, gone.is_found, gone.finding.measure) == (Status.FIXED, False, 0.96)
    with database.transaction() as tx:
        assert found(tx, settings, ids, 0.97).returned == opened
        back = only(tx, settings)
    assert (back.id, back.review.status, back.finding.measure) == (first.id, Status.OPEN, 0.97)
    assert back.first_seen == first.first_seen
    assert back.last_measured > first.last_measured


def test_following_again_changes_nothing(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        before = only(tx, settings)
        assert follow(tx, settings) == Changes()
        assert only(tx, settings) == before


@pytest.mark.parametrize(("later", "status"), [(0.97, Status.DISMISSED), (0.99, Status.OPEN)])
def test_a_dismissed_finding_is_open_again_when_its_number_moves_too_far(
    database: Database, settings: Settings, later: float, status: Status
) -> None:
    with database.transaction() as tx:
        ids = pair(tx)
        found(tx, settings, ids)
        dismiss(tx, settings, only(tx, settings))
    with database.transaction() as tx:
        found(tx, settings, ids, later)
        assert only(tx, settings).review.status is status


def test_a_dismissal_outlives_the_finding_that_it_was_about(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        ids = pair(tx)
        found(tx, settings, ids)
        dismiss(tx, settings, only(tx, settings))
        assert found(tx, settings, ids, None) == Changes()
        assert found(tx, settings, ids, 0.97) == Changes()
        assert found(tx, settings, ids, 0.99).returned


def test_a_claim_that_something_is_fixed_is_refuted_by_the_next_measurement(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as tx:
        ids = pair(tx)
        found(tx, settings, ids)
        row = only(tx, settings)
        reviews.decide(
            tx, ADA, settings, seen(row), decision=Decision.FIXED, reason=Reason.PUT_RIGHT, comment="retrained"
        )
        assert follow(tx, settings) == Changes()
    with database.transaction() as tx:
        assert found(tx, settings, ids).returned == (row.id,)


def test_what_retires_a_model_takes_two_people(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        assert request(tx, settings) == [Action.REQUESTED]
        waiting = only(tx, settings)
        assert (waiting.review.status, waiting.review.requested_by) == (Status.IN_REVIEW, "ada")
        with pytest.raises(IllegalStep, match="ada asked for this"):
            reviews.approve(tx, ADA, settings, seen(waiting), comment="yes")
        with pytest.raises(AccessDenied, match="reviewer and may not approve"):
            reviews.approve(tx, Person("eve", Role.REVIEWER), settings, seen(waiting), comment="yes")
        reviews.approve(tx, BEN, settings, seen(waiting), comment="yes")
        accepted = only(tx, settings)
        entries = reviews.history(tx, ADA, settings, accepted.id)
    assert (accepted.review.status, accepted.review.requested_by) == (Status.ACCEPTED, "")
    assert [(one.action, one.reviewer, one.reason) for one in entries] == [
        (Action.REQUESTED, "ada", "retire"),
        (Action.APPROVED, "ben", "retire"),
    ]


def test_a_request_is_refused_by_an_approver_or_withdrawn(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        carl = Person("carl", Role.REVIEWER)
        for person in (BEN, ADA):
            request(tx, settings)
            with pytest.raises(AccessDenied):
                reviews.refuse(tx, carl, settings, seen(only(tx, settings)), comment="no")
            reviews.refuse(tx, person, settings, seen(only(tx, settings)), comment="no")
            assert only(tx, settings).review.requested_by == ""


def test_a_bulk_decision_is_all_or_nothing(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        first = pair(tx)
        found(tx, settings, first)
        found(tx, settings, pair(tx, "a", "b"))
        rows = reviews.listing(tx, ADA, settings)
        found(tx, settings, first, 0.97)
    with pytest.raises(FindingChanged), database.transaction() as tx:
        dismiss(tx, settings, *rows)
    with database.transaction() as tx:
        assert {row.review.status for row in reviews.listing(tx, ADA, settings)} == {Status.OPEN}
        dismiss(tx, settings, *reviews.listing(tx, ADA, settings))
        assert {row.review.status for row in reviews.listing(tx, ADA, settings)} == {Status.DISMISSED}


def test_assigned_is_in_review_until_released(database: Database, settings: Settings) -> None:
    due = datetime(2030, 1, 2, tzinfo=UTC)
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        row = only(tx, settings)
        reviews.assign(tx, ADA, settings, seen(row), assignee="ben", due_at=due)
        row = only(tx, settings)
        assert (row.review.status, row.assignee, row.due_at) == (Status.IN_REVIEW, "ben", due)
        assert reviews.listing(tx, ADA, settings, assignee="ada") == []
        reviews.assign(tx, ADA, settings, seen(row), assignee="")
        row = only(tx, settings)
        assert (row.review.status, row.assignee, row.due_at) == (Status.OPEN, "", due)
        assert reviews.listing(tx, ADA, settings, assignee="") == [row]


def test_a_viewer_looks_and_does_nothing(database: Database, settings: Settings) -> None:
    viewer = Person("vic", Role.VIEWER)
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        row = only(tx, settings, viewer)
        for act in (
            lambda: dismiss(tx, settings, row, person=viewer),
            lambda: reviews.assign(tx, viewer, settings, seen(row), assignee="vic"),
            lambda: reviews.approve(tx, viewer, settings, seen(row), comment="x"),
            lambda: reviews.refuse(tx, viewer, settings, seen(row), comment="x"),
            lambda: reviews.reopen(tx, viewer, settings, seen(row), comment="x"),
        ):
            with pytest.raises(AccessDenied, match="vic is a viewer"):
                act()
        assert only(tx, settings) == row


@pytest.mark.parametrize("comment", ["", "  \n"])
def test_a_decision_needs_a_comment(database: Database, settings: Settings, comment: str) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        row = only(tx, settings)
        with pytest.raises(IllegalStep, match="needs a comment"):
            reviews.decide(
                tx, ADA, settings, seen(row), decision=Decision.DISMISSED, reason=Reason.SANDBOX, comment=comment
            )


def test_models_that_a_person_may_not_see_are_masked_and_not_missing(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        ids = pair(tx, "secret-risk", "support", tags={"team": "hush"})
        found(tx, settings, ids)
        dismiss(tx, settings, only(tx, settings))
        row = only(tx, settings, EVE)
        entries = [*reviews.history(tx, EVE, settings, row.id), *reviews.log(tx, EVE, settings)]
        assert {(version.registered.ref.name, version.id) for version in row.members} == {
            (HIDDEN, ids[1]),
            ("support", ids[0]),
        }
        assert len(entries) == 2
        for shown in (row, *entries):
            assert "secret" not in repr(shown)
        assert row.owner == ""
        with pytest.raises(AccessDenied, match="may not see every model"):
            reviews.reopen(tx, EVE, settings, seen(row), comment="x")


def test_the_former_name_of_a_renamed_model_stays_hidden(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        ids = pair(tx, "secret-risk", "support")
        found(tx, settings, ids)
        dismiss(tx, settings, only(tx, settings))
        transitions.rename(tx, ids[0 if versions.get(tx, ids[0]).label.startswith("secret") else 1], "support-risk")
        [entry] = reviews.history(tx, EVE, settings, only(tx, settings).id)
        assert (entry.comment, entry.models) == ("", ())
        assert "secret" not in repr([entry, *(reviews.prove_about(tx, EVE, settings, each) for each in ids)])
        with pytest.raises(AccessDenied, match="may not see every model"):
            reviews.prove(tx, EVE, settings, entry.id)


def test_comments_about_hidden_models_are_erased_by_no_admin_of_others(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx, "secret-risk", "support"))
        dismiss(tx, settings, only(tx, settings))
        [entry] = reviews.log(tx, ADA, settings)
        with pytest.raises(AccessDenied, match="may not see every model"):
            reviews.erase(tx, Person("eve", Role.ADMIN, ("support*",)), settings, [entry.id], comment="x")


def test_nobody_decides_as_what_follows_by_itself_or_approves_in_another_letter_case(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx))
        row, given = only(tx, settings), {"decision": Decision.ACCEPTED, "reason": Reason.RETIRE, "comment": "x"}
        with pytest.raises(AccessDenied, match="follows by itself"):
            reviews.decide(tx, Person("Deltadex", Role.ADMIN), settings, seen(row), **given)
        reviews.decide(tx, ADA, settings, seen(row), **given)
        with pytest.raises(IllegalStep, match="can't approve it too"):
            reviews.approve(tx, Person("Ada", Role.ADMIN), settings, seen(only(tx, settings)), comment="x")


def sandbox(settings: Settings, **changes: object) -> Settings:
    rule = {
        "name": "sandbox", "kinds": [NEAR], "tags": {"project": "sandbox"}, "reason": "sandbox", "comment": "toys",
        "by": "ada", **changes,
    }  # fmt: skip
    return settings.model_copy(update={"review": ReviewSettings(rules=(RuleSettings.model_validate(rule),))})


def test_a_rule_decides_in_the_name_of_who_delegated_it_and_leaves_a_record(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as tx:
        found(tx, settings, pair(tx, tags={"project": "sandbox"}))
        found(tx, settings, pair(tx, "a", "b"))
        [decided] = follow(tx, sandbox(settings)).delegated
        [entry] = reviews.log(tx, ADA, settings, rule="sandbox")
        assert (entry.review_id, entry.action, entry.reviewer) == (decided, Action.DISMISSED, "ada")
        assert (entry.reason, entry.comment) == ("sandbox", "toys")
        assert follow(tx, sandbox(settings)) == Changes()


def test_a_rule_leaves_alone_what_a_person_reopened(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        found(tx, sandbox(settings), pair(tx, tags={"project": "sandbox"}))
        reviews.reopen(tx, BEN, settings, seen(only(tx, settings)), comment="not this one")
        assert follow(tx, sandbox(settings)) == Changes()
        assert only(tx, settings).review.status is Status.OPEN


def test_a_rule_of_somebody_without_the_right_does_nothing(database: Database, settings: Settings, tmp_path) -> None:
    file = tmp_path / "people.toml"
    file.write_text('[people.ada]\nrole = "viewer"\n')
    access = settings.access.model_copy(update={"file": file})
    with database.transaction() as tx:
        found(tx, settings, pair(tx, tags={"project": "sandbox"}))
        assert not follow(tx, sandbox(settings).model_copy(update={"access": access})).delegated
        file.write_text('[people.ada]\nrole = "reviewer"\nmodels = ["elsewhere-*"]\n')
        assert not follow(tx, sandbox(settings).model_copy(update={"access": access})).delegated


def test_versions_that_failed_are_findings_until_they_end_otherwise(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        failed, unsupported, base = (discovered(tx, name) for name in ("a", "b", "c"))
        transitions.mark_ended(tx, failed, state=State.FAILED, reason="truncated", hint="log it again")
        transitions.mark_ended(tx, unsupported, state=State.UNSUPPORTED, reason="a picture model", hint="none")
        transitions.mark_ended(tx, base, state=State.UNSUPPORTED, reason="itself a base")
        follow(tx, settings)
        rows = reviews.listing(tx, ADA, settings)
        assert [(row.finding.kind, row.version.id, row.severity) for row in rows] == [
            (FindingKind.FAILED, failed, Severity.HIGH),
            (FindingKind.UNSUPPORTED, unsupported, Severity.LOW),
        ]
        assert rows[0].finding.evidence == {"reason": "truncated", "hint": "log it again"}
        assert reviews.listing(tx, ADA, settings, severities=[Severity.HIGH]) == rows[:1]
    with database.transaction() as tx:
        transitions.requeue(tx, failed, reason="again")
        assert follow(tx, settings) == Changes()
        transitions.mark_ended(tx, failed, state=State.UNSUPPORTED, reason="no", hint="x")
        followed = follow(tx, settings)
        assert (followed.closed, len(followed.opened)) == ((rows[0].id,), 1)


def test_a_failure_that_is_said_to_be_fixed_and_happens_again_is_open_again(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as tx:
        failed = discovered(tx, "a")
        transitions.mark_ended(tx, failed, state=State.FAILED, reason="truncated")
        follow(tx, settings)
        row = only(tx, settings)
        reviews.decide(tx, ADA, settings, seen(row), decision=Decision.FIXED, reason=Reason.PUT_RIGHT, comment="x")
    with database.transaction() as tx:
        transitions.requeue(tx, failed, reason="again")
        assert follow(tx, settings) == Changes()
    with database.transaction() as tx:
        transitions.mark_ended(tx, failed, state=State.FAILED, reason="truncated")
        assert follow(tx, settings).returned == (row.id,)


def test_findings_about_deleted_versions_are_closed(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        newer, older = pair(tx)
        found(tx, settings, (newer, older))
        transitions.mark_ended(tx, older, state=State.DELETED, reason="gone")
        assert follow(tx, settings, name="mail").closed
        assert not only(tx, settings).is_found


def test_a_model_is_followed_without_the_others(database: Database, settings: Settings) -> None:
    with database.transaction() as tx:
        for names in (("a", "b"), ("c", "d")):
            ids = pair(tx, *names)
            grouped(tx, ids)
        assert len(follow(tx, settings, name="d").opened) == 1
        assert len(follow(tx, settings, name="a").opened) == 1
        assert not follow(tx, replace_registry(settings)).opened


def replace_registry(settings: Settings) -> Settings:
    return settings.model_copy(update={"registry": "elsewhere"})
