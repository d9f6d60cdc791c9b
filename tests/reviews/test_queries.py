"""Constraints of the database on reviews and their log, without the checks in Python."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from deltadex.errors import FindingChanged, StoreError
from deltadex.findings import queries as findings
from deltadex.findings.kinds import KINDS, Severity
from deltadex.reviews import chain, follow
from deltadex.reviews import queries as reviews
from deltadex.reviews.lifecycle import Action
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.types import Finding, FindingKind
from tests.stored import REGISTRY, embedded

DRIFT = FindingKind.DRIFT


@pytest.fixture(scope="module")
def store(postgres_url: str) -> Iterator[Database]:
    """One database with one finding, for all that is rolled back anyway."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database review_steps")
    with Database(make_conninfo(postgres_url, dbname="review_steps")) as database:
        migrate(database)
        with database.transaction() as tx:
            fill(tx)
        yield database


def fill(tx: Transaction, count: int = 1) -> list[int]:
    for number in range(count):
        older, newer = (embedded(tx, f"{name}-{number}", np.ones(3)) for name in ("a", "b"))
        found = Finding(DRIFT, newer, older, measure=0.96, threshold=0.95, evidence={"reason": "alike"})
        findings.replace(tx, [found], version_id=newer, recipe_id=None, kinds=[DRIFT])
    return follow.follow(tx, REGISTRY, name=None)[0]


def record(
    tx: Transaction,
    action: Action,
    *,
    by: str = "ada",
    review_id: int | None = None,
    comment: str = "c",
    reason: str = "",
) -> int:
    row = reviews.listing(tx, REGISTRY, ids=review_id and [review_id])[0]
    return reviews.record(tx, row.id, action, seen=row.revision, reviewer=by, comment=comment, reason=reason)


@pytest.mark.parametrize("action", [Action.ACCEPTED, Action.DISMISSED, Action.FIXED, Action.REQUESTED])
def test_a_decision_without_a_comment_or_a_reviewer_is_refused(store: Database, action: Action) -> None:
    for changed in ({"comment": "  "}, {"by": ""}):
        with pytest.raises(StoreError, match="violates check constraint"), store.transaction() as tx:
            record(tx, action, **changed)


def test_what_retires_a_model_is_not_accepted_by_one_person(store: Database) -> None:
    with pytest.raises(StoreError, match="needs a second person"), store.transaction() as tx:
        record(tx, Action.ACCEPTED, reason="retire")


def test_whoever_saw_something_else_does_not_decide(store: Database) -> None:
    with store.transaction() as tx:
        [row] = reviews.listing(tx, REGISTRY)
        record(tx, Action.ASSIGNED)
        with pytest.raises(FindingChanged):
            reviews.record(tx, row.id, Action.DISMISSED, seen=row.revision, reviewer="ben", comment="c")
        tx.rollback()
    with pytest.raises(StoreError, match="no finding under review with id 77"), store.transaction() as tx:
        reviews.record(tx, 77, Action.DISMISSED, seen=1, reviewer="ben", comment="c")


@pytest.mark.parametrize(
    "statement",
    [
        "delete from decisions",
        "truncate decisions cascade",
        "delete from reviews",
        "truncate reviews cascade",
    ],
)
def test_the_log_is_only_added_to(store: Database, statement: LiteralString) -> None:
    with pytest.raises(StoreError, match="is refused"), store.transaction() as tx:
        tx.execute(statement)


def test_simultaneous_decisions_make_one_chain(database: Database) -> None:
    with database.transaction() as tx:
        ids = fill(tx, 8)
    together = threading.Barrier(len(ids))

    def dismiss(review_id: int) -> None:
        with database.connect() as tx:
            together.wait()
            record(tx, Action.DISMISSED, review_id=review_id)

    with ThreadPoolExecutor(len(ids)) as threads:
        list(threads.map(dismiss, ids))
    with database.transaction() as tx:
        verified = chain.verify(tx)
    assert (verified.entries, verified.broken) == (len(ids), None)


def test_two_that_decide_the_same_at_once_get_one_decision(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
    together = threading.Barrier(2)

    def dismiss(by: str) -> bool:
        with database.connect() as tx:
            [row] = reviews.listing(tx, REGISTRY)
            together.wait()
            try:
                reviews.record(tx, row.id, Action.DISMISSED, seen=row.revision, reviewer=by, comment="c")
            except FindingChanged:
                tx.rollback()
                return False
            return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(dismiss, ["ada", "ben"])) == [False, True]


def test_a_finding_takes_the_severity_that_its_kind_has_in_this_release(database: Database) -> None:
    with database.transaction() as tx:
        [review_id] = fill(tx)
        tx.execute("update reviews set severity = 'low' where id = %s", [review_id])
        follow.follow(tx, REGISTRY, name=None)
        [row] = reviews.listing(tx, REGISTRY, ids=[review_id])
    assert row.severity is KINDS[row.finding.kind].severity is not Severity.LOW
