"""Editing, attesting, findings and due dates, in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from deltadex.access import Person, Role
from deltadex.errors import AccessDenied, FindingChanged, GovernanceError, IllegalStep, StoreError
from deltadex.findings import queries as findings
from deltadex.findings.kinds import Reason
from deltadex.ownership import actions, chain, reads
from deltadex.ownership.attestation import AttestationState
from deltadex.ownership.facts import FactOrigin, OwnershipField
from deltadex.ownership.follow import judge_attestations
from deltadex.ownership.tags import keep_tags
from deltadex.registry.client import RegisteredModel
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import Action, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.reasons import Decision
from deltadex.setting_groups import AccessSettings, OwnershipSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, RiskTier, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import ADMIN, REGISTRY, discovered

SETTINGS = Settings(registry=REGISTRY)
OWNER, TIER, USE, REVIEW = OwnershipField
ALL = {OWNER: "ada", TIER: "high", USE: "drafts of contracts"}


@pytest.fixture
def tx(database: Database) -> Iterator[Transaction]:
    with database.transaction() as tx:
        yield tx


def tagged(tx: Transaction, *, created_ms: int = 1, name: str = "support", **tags: str) -> None:
    keep_tags(tx, SETTINGS, {name: RegisteredModel(created_ms, {}, tags)})


def follow(tx: Transaction, settings: Settings = SETTINGS) -> list[ReviewRow]:
    judge_attestations(tx, settings)
    reviews.follow(tx, settings)
    return reviews.listing(tx, ADMIN, settings, kinds=[FindingKind.NOT_ATTESTED])


def past(tx: Transaction, days: int) -> None:
    """Let an attestation be older than it is, with all that follows."""
    tx.execute("alter table ownership_entries disable trigger user")
    tx.execute("update ownership_entries set recorded_at = recorded_at - make_interval(days => %s)", [days])
    tx.execute("alter table ownership_entries enable trigger user")


def test_what_people_state_wins_over_tags_until_it_is_taken_back(tx: Transaction) -> None:
    discovered(tx, tags={"owner": "version owner"})
    assert reads.of_model(tx, ADMIN, SETTINGS, "support").owner_fact.origin is FactOrigin.VERSION_TAG
    tagged(tx, owner="tag owner", risk_tier="medium")
    [row] = versions.listing(tx, REGISTRY)
    assert (row.registered.owner, row.registered.tier) == ("tag owner", RiskTier.MEDIUM)
    now = actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "ada", TIER: "High"})
    assert (now.owner, now.tier, now.tier_fact.origin) == ("ada", RiskTier.HIGH, FactOrigin.STATED)
    [row] = versions.listing(tx, REGISTRY)
    assert (row.registered.owner, row.registered.tier) == ("ada", RiskTier.HIGH)
    assert actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: None}).owner == "tag owner"
    told = [(one.field, one.former, one.stated, one.person) for one in reads.history(tx, ADMIN, SETTINGS, "support")]
    assert told == [("owner", "ada", None, "ada"), ("tier", None, "high", "ada"), ("owner", None, "ada", "ada")]


def test_an_edit_that_changes_nothing_is_no_entry(tx: Transaction) -> None:
    discovered(tx)
    for _ in range(2):
        actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "ada", REVIEW: None})
    assert len(reads.history(tx, ADMIN, SETTINGS, "support")) == 1


def test_an_edit_of_what_another_person_has_changed_is_refused(tx: Transaction) -> None:
    discovered(tx)
    seen = reads.of_model(tx, ADMIN, SETTINGS, "support")
    actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "bo"})
    with pytest.raises(FindingChanged), tx.transaction():
        actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "ada"}, seen=seen)
    assert reads.of_model(tx, ADMIN, SETTINGS, "support").owner == "bo"


def test_an_edit_is_all_or_nothing(tx: Transaction) -> None:
    discovered(tx)
    with pytest.raises(IllegalStep), tx.transaction():
        actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "ada", TIER: "critical"})
    assert reads.history(tx, ADMIN, SETTINGS, "support") == []


def test_who_may_not_manage_a_model_is_refused(tx: Transaction) -> None:
    discovered(tx)
    viewer, elsewhere = Person("eve", Role.VIEWER), Person("eve", Role.ADMIN, ("legal-*",))
    for person in (viewer, elsewhere):
        with pytest.raises(AccessDenied):
            actions.edit(tx, person, SETTINGS, "support", {OWNER: "eve"})
    assert reads.of_model(tx, elsewhere, SETTINGS, "support") is None
    with pytest.raises(AccessDenied):
        actions.edit(tx, ADMIN, SETTINGS, "no-such-model", {OWNER: "ada"})
    actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    for person in (viewer, elsewhere):
        with pytest.raises(GovernanceError):
            actions.attest(tx, person, SETTINGS, "support")


def test_the_owner_attests_and_nobody_else_who_is_not_entitled(tx: Transaction, tmp_path: Path) -> None:
    discovered(tx)
    file = tmp_path / "people.toml"
    people = '[people]\nada = {role = "viewer"}\nbo = {role = "reviewer"}\n'
    file.write_text(f'{people}[groups]\n"the contracts team" = {{role = "viewer"}}\n')
    settings = SETTINGS.model_copy(update={"access": AccessSettings(file=file)})
    ada, bo = Person("ada", Role.VIEWER), Person("bo", Role.REVIEWER)
    # Anyone can set a tag: it names an owner, but gives a viewer no right.
    tagged(tx, owner="ada", risk_tier="high", intended_use="drafts")
    assert not actions.may_attest(ada, settings, reads.of_model(tx, ada, settings, "support"))
    actions.edit(tx, bo, settings, "support", ALL)
    with pytest.raises(AccessDenied, match="owned by ada"):
        actions.attest(tx, bo, settings, "support")
    assert actions.attest(tx, ada, settings, "support").state is AttestationState.CURRENT
    for owner in ("Ada", "ada@acme.com", "a team that is not listed"):
        actions.edit(tx, bo, settings, "support", {OWNER: owner})
        with pytest.raises(AccessDenied, match=f"owned by {owner}"):
            actions.attest(tx, bo, settings, "support")
    # A group of the file, for which a reviewer speaks.
    actions.edit(tx, bo, settings, "support", {OWNER: "the contracts team"})
    assert actions.attest(tx, bo, settings, "support").attestation.by == "bo"


def test_only_what_is_stated_and_was_seen_can_be_attested(tx: Transaction) -> None:
    discovered(tx)
    actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "ada"})
    with pytest.raises(IllegalStep, match="no risk tier and no intended use"):
        actions.attest(tx, ADMIN, SETTINGS, "support")
    seen = actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    actions.edit(tx, ADMIN, SETTINGS, "support", {USE: "advice"})
    with pytest.raises(FindingChanged):
        actions.attest(tx, ADMIN, SETTINGS, "support", seen=seen)


def test_a_missing_attestation_is_a_finding_that_attesting_closes_and_time_opens(tx: Transaction) -> None:
    first = discovered(tx)
    discovered(tx, version=2)
    actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    [row] = follow(tx)
    assert (row.version.id, row.review.status) == (first, Status.OPEN)
    actions.attest(tx, ADMIN, SETTINGS, "support")
    [row] = follow(tx)
    assert (row.review.status, row.last.action) == (Status.FIXED, Action.CLOSED)
    past(tx, 91)
    tx.execute("update reviews set status_since = status_since - interval '1 hour'")
    [row] = follow(tx)
    assert row.review.status is Status.OPEN
    assert "ended on" in row.finding.evidence["reason"]
    # It is due as if it were found today, not when it was found first.
    assert row.due_at > datetime.now(UTC) + timedelta(days=13)
    revision = row.revision
    assert follow(tx)[0].revision == revision


def test_a_dismissed_finding_stays_so_until_the_next_attestation_ends(tx: Transaction) -> None:
    discovered(tx)
    actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    [row] = follow(tx)
    decided = {"decision": Decision.DISMISSED, "reason": Reason.SANDBOX, "comment": "why"}
    reviews.decide(tx, ADMIN, SETTINGS, {row.id: row.revision}, **decided)
    assert follow(tx)[0].review.status is Status.DISMISSED
    actions.attest(tx, ADMIN, SETTINGS, "support")
    past(tx, 91)
    assert follow(tx)[0].review.status is Status.OPEN


def test_models_without_a_version_have_no_finding(tx: Transaction) -> None:
    version_id = discovered(tx)
    actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    transitions.mark_ended(tx, version_id, state=State.DELETED, reason="gone")
    assert follow(tx) == []
    assert reads.of_models(tx, ADMIN, SETTINGS) == []


def test_a_model_created_again_inherits_nothing_and_a_renamed_one_all(tx: Transaction) -> None:
    discovered(tx)
    tagged(tx, created_ms=1)
    actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    tagged(tx, created_ms=2)
    assert reads.of_model(tx, ADMIN, SETTINGS, "support").owner == ""
    actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "bo"})
    tx.execute("update model_versions set name = 'helpdesk'")
    tagged(tx, created_ms=2, name="helpdesk")
    assert reads.of_model(tx, ADMIN, SETTINGS, "helpdesk").owner == "bo"
    assert [one.subject for one in reads.history(tx, ADMIN, SETTINGS, "helpdesk")] == [f"{REGISTRY}:support"]


def found(tx: Transaction, *ids: int) -> dict[int, ReviewRow]:
    for version_id in ids:
        one = Finding(FindingKind.LICENSE, version_id, evidence={"reason": "none"})
        findings.replace(tx, [one], version_id=version_id, recipe_id=None, kinds=[FindingKind.LICENSE])
    reviews.follow(tx, SETTINGS)
    return {row.version.id: row for row in reviews.listing(tx, ADMIN, SETTINGS, kinds=[FindingKind.LICENSE])}


def days(row: ReviewRow) -> int:
    return round((row.due_at - row.first_seen) / timedelta(days=1))


def test_findings_are_due_by_the_tier_of_their_model(tx: Transaction) -> None:
    plain, high, low = (discovered(tx, name) for name in ("plain", "high", "low"))
    for name in ("high", "low"):
        actions.edit(tx, ADMIN, SETTINGS, name, {TIER: name})
    rows = found(tx, plain, high, low)
    assert {key: days(row) for key, row in rows.items()} == {plain: 7, high: 3, low: 14}
    # A tier that changes moves what is undecided, but no date that a person has set.
    chosen = datetime(2030, 1, 1, tzinfo=UTC)
    reviews.assign(tx, ADMIN, SETTINGS, {rows[low].id: rows[low].revision}, assignee="ada", due_at=chosen)
    for name in ("plain", "low"):
        actions.edit(tx, ADMIN, SETTINGS, name, {TIER: "high"})
    rows = found(tx)
    assert days(rows[plain]) == 3
    assert rows[low].due_at == chosen


def test_a_pair_is_due_by_its_model_of_the_highest_tier(tx: Transaction) -> None:
    older, newer = discovered(tx, "older"), discovered(tx, "newer")
    actions.edit(tx, ADMIN, SETTINGS, "older", {TIER: "high"})
    actions.edit(tx, ADMIN, SETTINGS, "newer", {TIER: "low"})
    pair = Finding(FindingKind.DRIFT, newer, older, 0.6, 0.5)
    findings.replace(tx, [pair], version_id=newer, recipe_id=None, kinds=[FindingKind.DRIFT])
    reviews.follow(tx, SETTINGS)
    [row] = reviews.listing(tx, ADMIN, SETTINGS)
    assert days(row) == 3


def test_a_tier_without_days_of_its_own_has_those_of_the_severity(tx: Transaction) -> None:
    version_id = discovered(tx)
    actions.edit(tx, ADMIN, SETTINGS, "support", {TIER: "high"})
    found(tx, version_id)
    settings = SETTINGS.model_copy(update={"ownership": OwnershipSettings(due_days={})})
    reviews.follow(tx, settings)
    [row] = reviews.listing(tx, ADMIN, settings, kinds=[FindingKind.LICENSE])
    assert days(row) == 7


def test_a_changed_history_is_detected(tx: Transaction) -> None:
    discovered(tx)
    actions.edit(tx, ADMIN, SETTINGS, "support", ALL)
    actions.attest(tx, ADMIN, SETTINGS, "support")
    whole = chain.verify(tx, ADMIN)
    assert (whole.entries, whole.broken) == (4, None)
    assert chain.verify(tx, ADMIN, holding=whole.head) == whole
    assert "is missing" in chain.verify(tx, ADMIN, holding="0" * 64).problem
    assert "was number 3 and is number 4" in chain.verify(tx, ADMIN, holding=f"3{whole.head[1:]}").problem
    attested, _, _, owner = (entry.id for entry in reads.history(tx, ADMIN, SETTINGS, "support"))
    for statement, problem in (
        ("update registered_models set stated = '{}'", "is not as"),
        ("update ownership_entries set stated = 'eve' where field = 'owner'", f"Entry {owner} "),
        ("delete from ownership_entries where field = 'tier'", "one before it is missing"),
        (
            "update ownership_entries set statement = statement || '{\"owner\": \"eve\"}' where field = 'attestation'",
            f"Entry {attested} ",
        ),
    ):
        tx.execute("savepoint before")
        tx.execute("alter table ownership_entries disable trigger user")
        tx.execute(statement)
        assert problem in chain.verify(tx, ADMIN).problem
        tx.execute("rollback to before")
    with pytest.raises(psycopg.errors.CheckViolation), tx.transaction():
        tx.execute("update ownership_entries set stated = 'eve'")


def test_services_may_not_state_anything_but_by_the_function(database: Database) -> None:
    with database.transaction() as tx:
        discovered(tx)
        actions.edit(tx, ADMIN, SETTINGS, "support", {OWNER: "ada"})
    for role in ("deltadex_writer", "deltadex_reader", "deltadex_dashboard"):
        for statement in (
            "update registered_models set stated = '{}'",
            "insert into ownership_entries (model_id, subject, field, person, identity) values (1, '', 'tier', '', '')",
        ):
            with pytest.raises(StoreError, match="permission denied"), database.transaction() as tx:
                tx.execute(f"set local role {role}; {statement}")


def test_a_review_date_ends_an_attestation(tx: Transaction) -> None:
    discovered(tx)
    soon = date.today() + timedelta(days=5)
    actions.edit(tx, ADMIN, SETTINGS, "support", {**ALL, REVIEW: soon.isoformat()})
    known = actions.attest(tx, ADMIN, SETTINGS, "support")
    assert (known.review_by, known.until) == (soon, soon)


@pytest.mark.parametrize(
    ("field", "value", "statement"),
    [
        ("tier", "critical", "{}"),
        ("review_by", "soon", "{}"),
        ("review_by", "2026-02-30", "{}"),
        ("owner", "a" * 201, "{}"),
        ("password", "x", "{}"),
        ("attestation", None, "{}"),
        ("attestation", None, '{"owner": 1, "tier": "high", "intended_use": "x"}'),
    ],
)
def test_nothing_unreadable_is_stored_past_the_library(
    tx: Transaction, field: str, value: str | None, statement: str
) -> None:
    discovered(tx)
    with pytest.raises(psycopg.errors.CheckViolation), tx.transaction():
        tx.execute(
            "select record_ownership(%s, 'support', %s, null, %s, %s, 'eve', '')", [REGISTRY, field, value, statement]
        )
    assert reads.of_model(tx, ADMIN, SETTINGS, "support").owner == ""
