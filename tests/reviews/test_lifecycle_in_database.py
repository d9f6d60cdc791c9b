"""The database allows the same transitions as the state machine, for every state and role."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.errors import IllegalStep
from deltadex.findings import queries as findings
from deltadex.reviews import follow
from deltadex.reviews import queries as reviews
from deltadex.reviews.lifecycle import UNDECIDED, Action, Basis, Review, Status
from deltadex.reviews.reasons import NEEDS_APPROVAL, Reason
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.store.roles import DatabaseRole
from deltadex.types import Finding, FindingKind
from tests.stored import REGISTRY, embedded

DRIFT = FindingKind.DRIFT
BASIS = Basis(0.96, "alike")
PEOPLE = ("ada", "ben")
#: Only measurements do these, and only the writer measures.
BY_MEASUREMENT = {Action.RETURNED, Action.CLOSED}
#: The owner is None.
ALLOWED: dict[DatabaseRole | None, set[Action]] = {
    None: set(Action),
    DatabaseRole.WRITER: set(Action),
    DatabaseRole.READER: set(Action) - BY_MEASUREMENT,
    DatabaseRole.DASHBOARD: set(Action) - BY_MEASUREMENT,
    DatabaseRole.AUDITOR: set(),
}
#: Anyone else who decides is recorded as the database user who logged in.
MAY_NAME_ACTORS = (None, DatabaseRole.DASHBOARD)

Step = tuple[Action, str]
#: Where a finding stands, and whether a request waits there.
Situation = tuple[Status, bool]


def situation(review: Review) -> Situation:
    return review.status, bool(review.requested_by)


def step(review: Review, action: Action, by: str) -> Review | None:
    """Return the review after a step; None where the state machine refuses it."""
    try:
        return review.after(action, by=by, basis=BASIS)
    except IllegalStep:
        return None


def every_situation() -> dict[Situation, tuple[Step, ...]]:
    """Return the shortest way to each situation that steps lead to."""
    ways: dict[Situation, tuple[Step, ...]] = {situation(Review()): ()}
    reached = [Review()]
    for review in reached:
        for action, by in itertools.product(Action, PEOPLE):
            after = step(review, action, by)
            if after is not None and situation(after) not in ways:
                ways[situation(after)] = (*ways[situation(review)], (action, by))
                reached.append(after)
    return ways


WAYS = every_situation()


@pytest.fixture(scope="module")
def store(postgres_url: str) -> Iterator[Database]:
    """One database with one finding and a user per role; every step is rolled back."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database lifecycle")
    with Database(make_conninfo(postgres_url, dbname="lifecycle")) as database:
        migrate(database)
        with database.transaction() as tx:
            older, newer = (embedded(tx, name, np.ones(3)) for name in "ab")
            found = Finding(DRIFT, newer, older, measure=0.96, threshold=0.95, evidence={"reason": "alike"})
            findings.replace(tx, [found], version_id=newer, recipe_id=None, kinds=[DRIFT])
            follow.follow(tx, REGISTRY, name=None)
            for role in DatabaseRole:
                tx.execute(SQL("create role {} in role {}").format(Identifier(user_of(role)), Identifier(role)))
        yield database


def user_of(role: DatabaseRole | None) -> str:
    return f"lifecycle_{role}"


def in_database(
    tx: Transaction, action: Action, by: str, *, role: DatabaseRole | None = None, reason: str = ""
) -> bool:
    """Take a step as a user with this role, and return whether the database allowed it."""
    [row] = reviews.listing(tx, REGISTRY)
    try:
        with tx.transaction():
            if role is not None:
                tx.execute(SQL("set local session authorization {}").format(Identifier(user_of(role))))
            reviews.record(tx, row.id, action, seen=row.revision, reviewer=by, comment="c", reason=reason)
            tx.execute("set local session authorization default")
    except (psycopg.errors.CheckViolation, psycopg.errors.InsufficientPrivilege):
        return False
    return True


def go(tx: Transaction, way: tuple[Step, ...]) -> Review:
    """Bring the finding into a situation and return what the state machine says of it there."""
    review = Review()
    for action, by in way:
        assert in_database(tx, action, by)
        review = review.after(action, by=by, basis=BASIS)
    return review


def test_every_status_is_reached_and_requests_wait_in_review_only() -> None:
    assert set(WAYS) == {*((status, False) for status in Status), (Status.IN_REVIEW, True)}


@pytest.mark.parametrize(("where", "action"), [*itertools.product(WAYS, Action)])
def test_both_allow_the_same_steps(store: Database, where: Situation, action: Action) -> None:
    for by, role in itertools.product(PEOPLE, ALLOWED):
        with store.transaction() as tx:
            before = go(tx, WAYS[where])
            actor = by if role in MAY_NAME_ACTORS else user_of(role)
            after = step(before, action, actor) if action in ALLOWED[role] else None
            assert in_database(tx, action, by, role=role) == (after is not None)
            assert reviews.listing(tx, REGISTRY)[0].review == (after or before)
            tx.rollback()


@pytest.mark.parametrize("reason", Reason)
def test_both_want_a_second_person_for_the_same_reasons(store: Database, reason: Reason) -> None:
    for where in UNDECIDED:
        with store.transaction() as tx:
            go(tx, WAYS[where, False])
            assert in_database(tx, Action.ACCEPTED, "ada", reason=reason) == (reason not in NEEDS_APPROVAL)
            tx.rollback()
