"""What the database itself holds to about reviews and their log, past all guards in our own code."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.domain import Finding, FindingKind
from deltadex.errors import ChangedMeanwhile, IllegalStep, StoreError
from deltadex.governance.lifecycle import Action, Basis, Review, Status
from deltadex.store import findings, review_changes, reviews
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.store.reviews import entry_hash
from tests.store.examples import REGISTRY, embedded

NEAR = FindingKind.NEAR_DUPLICATE
#: How people get a finding from open to each place: the actions, each by somebody else.
WAYS: dict[tuple[Status, bool], list[Action]] = {
    (Status.OPEN, False): [],
    (Status.IN_REVIEW, False): [Action.ASSIGNED],
    (Status.IN_REVIEW, True): [Action.REQUESTED],
    (Status.ACCEPTED, False): [Action.ACCEPTED],
    (Status.DISMISSED, False): [Action.DISMISSED],
    (Status.FIXED, False): [Action.FIXED],
}


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
        found = Finding(NEAR, newer, older, measure=0.96, threshold=0.95, evidence={"reason": "alike"})
        findings.replace(tx, [found], version_id=newer, recipe_id=None, kinds=[NEAR])
    return review_changes.follow(tx, REGISTRY, name=None)[0]


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


@pytest.mark.parametrize(("start", "action", "by"), [*itertools.product(WAYS, Action, ["ada", "ben"])])
def test_the_database_takes_the_same_steps_as_the_state_machine(
    store: Database, start: tuple[Status, bool], action: Action, by: str
) -> None:
    basis = Basis(0.96, "alike")
    with store.transaction() as tx:
        expected = Review()
        for step in WAYS[start]:
            record(tx, step)
            expected = expected.after(step, by="ada", basis=basis)
        try:
            expected = expected.after(action, by=by, basis=basis)
        except IllegalStep:
            with pytest.raises(psycopg.errors.CheckViolation):
                record(tx, action, by=by)
        else:
            record(tx, action, by=by)
            assert reviews.listing(tx, REGISTRY)[0].review == expected
        tx.rollback()


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
        with pytest.raises(ChangedMeanwhile):
            reviews.record(tx, row.id, Action.DISMISSED, seen=row.revision, reviewer="ben", comment="c")
        tx.rollback()
    with pytest.raises(StoreError, match="no finding under review with id 77"), store.transaction() as tx:
        reviews.record(tx, 77, Action.DISMISSED, seen=1, reviewer="ben", comment="c")


@pytest.mark.parametrize(
    "statement",
    [
        "update decisions set comment = 'nicer'",
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
        chain = reviews.verify(tx)
    assert (chain.entries, chain.broken) == (len(ids), None)


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
            except ChangedMeanwhile:
                tx.rollback()
                return False
            return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(dismiss, ["ada", "ben"])) == [False, True]


_EVERYTHING_AN_ENTRY_SAYS = {
    "comment": "'nicer'", "reviewer": "'eve'", "decided_at": "now()", "measure": "0.5", "evidence": "'{}'",
    "reason": "'sandbox'", "action": "'accepted'", "status": "'accepted'", "subject": "'other'", "rule": "'r'",
    "assignee": "'eve'", "decided_by": "'eve'", "kind": "'drift'", "threshold": "null", "other_subject": "null",
    "request_id": "previous_id", "recipe_id": "1", "hash": "repeat('0', 64)",
}  # fmt: skip


@pytest.mark.parametrize("column", _EVERYTHING_AN_ENTRY_SAYS)
def test_whatever_is_changed_behind_the_triggers_is_noticed(store: Database, column: str) -> None:
    with store.transaction() as tx:
        entries = [record(tx, action) for action in (Action.ASSIGNED, Action.DISMISSED, Action.REOPENED)]
        assert reviews.verify(tx).broken is None
        tx.execute("alter table decisions disable trigger decisions_stay")
        change = SQL("update decisions set {} = {} from (select %s::bigint as previous_id) first where id = %s")
        changed = SQL(_EVERYTHING_AN_ENTRY_SAYS[column])  # type: ignore[arg-type]
        tx.execute(change.format(Identifier(column), changed), entries[:2])
        assert reviews.verify(tx).broken == entries[1]
        tx.rollback()


def test_a_missing_entry_is_noticed_and_a_missing_end_by_whoever_noted_the_head(store: Database) -> None:
    with store.transaction() as tx:
        entries = [record(tx, action) for action in (Action.ASSIGNED, Action.RELEASED, Action.ASSIGNED)]
        noted = reviews.verify(tx)
        assert reviews.verify(tx, holding=noted.head) == noted
        tx.execute("update reviews set decision_id = null")
        tx.execute("alter table decisions disable trigger decisions_stay")
        tx.execute("delete from decisions where id = %s", [entries[2]])
        assert reviews.verify(tx).broken is None
        assert reviews.verify(tx, holding=noted.head).broken == 0
        tx.execute("delete from decisions where id = %s", [entries[0]])
        assert reviews.verify(tx).broken == entries[1]
        tx.rollback()


def test_entries_copied_in_order_keep_their_hashes(store: Database) -> None:
    with store.transaction() as tx:
        for action in (Action.ASSIGNED, Action.RELEASED, Action.DISMISSED):
            record(tx, action)
        before = reviews.verify(tx)
        tx.execute("create temporary table kept on commit drop as table decisions")
        tx.execute("update reviews set decision_id = null")
        tx.execute("alter table decisions disable trigger decisions_stay")
        tx.execute("delete from decisions")
        tx.execute("insert into decisions overriding system value select * from kept order by id")
        assert reviews.verify(tx) == before
        tx.rollback()


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
@given_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres_and_python_write_the_same_text(store: Database, text: str) -> None:
    with store.transaction() as tx:
        row = tx.execute("select jsonb_build_array(%s::text, null::text)::text", [text]).fetchone()
    assert row == (json.dumps([text, None], ensure_ascii=False),)


def test_an_entry_is_hashed_with_the_one_before() -> None:
    assert entry_hash(["a", None]) != entry_hash(["b", None])
