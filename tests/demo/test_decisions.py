"""Decisions of the demo's two people, on a real Postgres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deltadex.access import at_terminal
from deltadex.demo import Size
from deltadex.demo.decisions import ADA, ASSIGNMENTS, BEN, OWNED, RULINGS, decide
from deltadex.demo.specification import specification
from deltadex.duplicates.regroup import regroup_around
from deltadex.errors import AccessDenied, DeltadexError
from deltadex.findings import queries as findings
from deltadex.ownership import reads as ownership
from deltadex.ownership.attestation import AttestationState
from deltadex.ownership.tags import keep_tags
from deltadex.registry.client import RegisteredModel
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import Action, Status
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.reviews.reasons import NEEDS_APPROVAL, reasons_for
from deltadex.setting_groups import AccessSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, RiskTier, State
from deltadex.versions import transitions
from tests.stored import ADMIN, REGISTRY, discovered, embedded

SETTINGS = Settings(registry=REGISTRY)


def found(tx: Transaction) -> None:
    """Two versions with the same weights, a broken one and a drifted one, as the demo has them."""
    exact = [
        embedded(tx, name, np.ones(3), weights="same", aliases=aliases)
        for name, aliases in (("contract-drafter", ("champion",)), ("vendor-agreements", ()))
    ]
    pair = [Finding(FindingKind.EXACT_DUPLICATE, exact[1], exact[0])]
    findings.replace(tx, pair, version_id=exact[1], recipe_id=None, kinds=[FindingKind.EXACT_DUPLICATE])
    regroup_around(tx, SETTINGS, exact)
    broken = discovered(tx, "invoice-extractor", tags={"team": "finance"})
    transitions.mark_ended(tx, broken, state=State.FAILED, reason="truncated")
    for name in ("chat-greeter", "ticket-digest"):
        unsupported = discovered(tx, name, tags={"team": "support"})
        transitions.mark_ended(tx, unsupported, state=State.UNSUPPORTED, reason="pissa", hint="Merge it.")
    reviews.follow(tx, SETTINGS)
    keep_tags(tx, SETTINGS, {"contract-drafter": RegisteredModel(1, {}, {})})


def read(database: Database) -> tuple[dict[FindingKind, ReviewRow], list[LogEntry]]:
    with database.transaction() as tx:
        rows = reviews.listing(tx, ADMIN, SETTINGS)
        return {row.finding.kind: row for row in rows}, reviews.log(tx, ADMIN, SETTINGS)


@pytest.fixture
def decided(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr("deltadex.demo.decisions.are_due", lambda *_: False)
    with database.transaction() as tx:
        found(tx)
    assert decide(database, SETTINGS)
    return database


def test_one_request_to_retire_a_duplicate_waits_for_the_second_person(decided: Database) -> None:
    rows, _ = read(decided)
    exact = rows[FindingKind.EXACT_DUPLICATE]
    assert (exact.review.status, exact.review.requested_by) == (Status.IN_REVIEW, ADA)
    assert [one.version for one in exact.plan.targets] == ["vendor-agreements/1"]
    with decided.transaction() as tx:
        ben = at_terminal(SETTINGS, as_=BEN)
        reviews.approve(tx, ben, SETTINGS, {exact.id: exact.revision}, comment="yes")


def test_another_request_is_approved_by_the_person_who_did_not_make_it(decided: Database) -> None:
    rows, log = read(decided)
    failed = rows[FindingKind.FAILED]
    assert failed.review.status is Status.ACCEPTED
    by = {entry.action: entry.reviewer for entry in log if entry.review_id == failed.id}
    assert by == {Action.REQUESTED: BEN, Action.APPROVED: ADA}


def test_a_teams_inbox_is_full(decided: Database) -> None:
    with decided.transaction() as tx:
        rows = reviews.listing(tx, ADMIN, SETTINGS, assignee="support")
    assert [row.finding.kind for row in rows] == [FindingKind.UNSUPPORTED] * 2


def test_one_model_is_owned_and_attested(decided: Database) -> None:
    with decided.transaction() as tx:
        known = ownership.of_model(tx, ADMIN, SETTINGS, "contract-drafter")
    assert known is not None
    assert (known.owner, known.tier, known.state) == (ADA, RiskTier.HIGH, AttestationState.CURRENT)
    assert known.attestation is not None
    assert known.attestation.by == ADA


def test_a_second_demo_adds_nothing(decided: Database) -> None:
    _, before = read(decided)
    assert not decide(decided, SETTINGS)
    assert read(decided)[1] == before


def test_nobody_decides_under_another_name_where_there_is_an_access_file(database: Database, tmp_path: Path) -> None:
    (tmp_path / "access.toml").write_text("")
    settings = SETTINGS.model_copy(update={"access": AccessSettings(file=tmp_path / "access.toml")})
    with pytest.raises(AccessDenied):
        decide(database, settings)


def test_analyses_that_never_end_are_waited_for_no_longer_than_said(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "support", np.ones(3))
    with pytest.raises(DeltadexError, match="have not ended within 0 s"):
        decide(database, SETTINGS, max_seconds=0)
    assert read(database)[1] == []


def test_what_they_decide_is_in_the_company_and_allowed() -> None:
    names = {version.name for version in specification(Size.COMPANY).versions}
    teams = {version.team for version in specification(Size.COMPANY).versions}
    assert {name for name, _ in OWNED} <= names
    assert {each.model for each in (*RULINGS, *ASSIGNMENTS) if each.model} <= names
    assert {each.team for each in ASSIGNMENTS if each.team} <= teams
    for ruling in RULINGS:
        assert ruling.reason in reasons_for(ruling.kind, ruling.decision)
        assert ruling.comment
    waiting = [ruling for ruling in RULINGS if ruling.reason in NEEDS_APPROVAL and not ruling.approved]
    assert [ruling.kind for ruling in waiting] == [FindingKind.EXACT_DUPLICATE]
