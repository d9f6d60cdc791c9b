"""Sentences of the overview, and visits, on a real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deltadex.access import Person, Role
from deltadex.findings import queries as findings
from deltadex.findings.kinds import Reason
from deltadex.news.queries import note_visit
from deltadex.news.since import News, fullest_inboxes, news
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from deltadex.versions.queries import listing
from tests.stored import REGISTRY, embedded

ADA, BEN = (Person(name, Role.APPROVER) for name in ("ada", "ben"))
LOOKER = Person("eve", Role.VIEWER)
SETTINGS = Settings(registry=REGISTRY)
LICENSE = FindingKind.LICENSE
NOW = datetime.now(UTC)


@pytest.fixture
def filled(tx: Transaction) -> Transaction:
    """Two versions of today with a licence problem each, and an old one without."""
    today_ms = int(NOW.timestamp() * 1000)
    for name, created_ms in (("old", 1), ("one", today_ms), ("two", today_ms)):
        version_id = embedded(tx, name, [1.0, 0.0], created_ms=created_ms, tags={"team": f"team-{name}"})
        found = [Finding(LICENSE, version_id, evidence={"reason": "it is so"})] if name != "old" else []
        findings.replace(tx, found, version_id=version_id, recipe_id=None, kinds=[LICENSE])
    reviews.follow(tx, SETTINGS)
    return tx


@pytest.fixture
def tx(database: Database) -> Transaction:
    with database.transaction() as tx:
        yield tx


def said(tx: Transaction, person: Person, *, since: timedelta = timedelta(days=1)) -> News:
    return news(
        person, NOW - since, versions=listing(tx, REGISTRY), findings=reviews.listing(tx, person, SETTINGS),
        log=reviews.log(tx, person, SETTINGS), now=NOW,
    )  # fmt: skip


def seen(tx: Transaction, place: int) -> dict[int, int]:
    row = reviews.listing(tx, ADA, SETTINGS)[place]
    return {row.id: row.revision}


def test_what_is_new_and_what_it_means(filled: Transaction) -> None:
    found = said(filled, ADA)
    assert found.changed == "2 versions registered in 2 models, 2 new findings"
    assert found.meaning == "2 × licence"
    assert found.to_do == "nothing is assigned to you"
    assert found.next is not None
    assert said(filled, ADA, since=-timedelta(hours=1)).changed == "nothing has changed"


def test_each_person_is_told_what_waits_for_them(filled: Transaction) -> None:
    reviews.assign(filled, ADA, SETTINGS, seen(filled, 0), assignee="ben")
    [asked] = seen(filled, 1)
    reviews.decide(
        filled, ADA, SETTINGS, seen(filled, 1), decision=Decision.ACCEPTED, reason=Reason.RETIRE, comment="no licence"
    )
    assert said(filled, BEN).to_do == "1 request for your approval, 1 finding assigned to you"
    assert said(filled, ADA).to_do == "nothing is assigned to you", "one's own request waits for another person"
    assert said(filled, LOOKER).to_do == ""
    assert "1 decision" in said(filled, BEN).changed, "an assignment is none"
    assert said(filled, BEN).next is not None
    assert fullest_inboxes(reviews.listing(filled, ADA, SETTINGS)) == [("ben", 1), ("team-two", 1)]
    assert asked in {row.id for row in reviews.listing(filled, BEN, SETTINGS)}


def test_a_visit_ends_after_half_an_hour_and_is_each_persons_own(tx: Transaction) -> None:
    assert note_visit(tx, ADA, REGISTRY) is None
    assert note_visit(tx, ADA, REGISTRY) is None, "still the first visit"
    tx.execute("update visits set seen_at = now() - interval '2 hours'")
    before = note_visit(tx, ADA, REGISTRY)
    assert before is not None
    assert note_visit(tx, ADA, REGISTRY) == before
    assert note_visit(tx, BEN, REGISTRY) is None
