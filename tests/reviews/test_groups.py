"""One decision per group of redundant versions, on a real Postgres: who is kept, who is retired, and what voids it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.duplicates.regroup import regroup, regroup_around
from deltadex.errors import FindingChanged, IllegalStep
from deltadex.findings import queries as findings
from deltadex.findings.kinds import Reason
from deltadex.reviews import actions as reviews
from deltadex.reviews import queries
from deltadex.reviews.checklist import checklist
from deltadex.reviews.lifecycle import Action, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.reasons import Decision
from deltadex.reviews.tags import tags_of
from deltadex.reviews.titles import title
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, State
from deltadex.versions import transitions
from tests.stored import REGISTRY, embedded, grouped, registered

ADA, BEN = (Person(name, Role.APPROVER) for name in ("ada", "ben"))
EXACT = FindingKind.EXACT_DUPLICATE
SETTINGS = Settings(registry=REGISTRY)


def same(tx: Transaction, *names: str, **values: object) -> list[int]:
    """Return the ids of versions with the same weights, the first with these values; none is under review yet."""
    ids = [
        embedded(tx, name, np.ones(3), weights="same", created_ms=place, **(values if place == 0 else {}))
        for place, name in enumerate(names)
    ]
    pair_up(tx, ids)
    return ids


def pair_up(tx: Transaction, ids: Sequence[int]) -> None:
    """Let every version be judged on arrival, as a pair with each older one."""
    for place, newer in enumerate(ids):
        found = [Finding(EXACT, newer, older) for older in ids[:place]]
        findings.replace(tx, found, version_id=newer, recipe_id=None, kinds=[EXACT])
    regroup_around(tx, SETTINGS, ids)
    reviews.follow(tx, SETTINGS)


def only(tx: Transaction) -> ReviewRow:
    [row] = reviews.listing(tx, ADA, SETTINGS, kinds=[EXACT])
    return row


def ask(tx: Transaction, *, keeper: int | None = None) -> ReviewRow:
    row = only(tx)
    reviews.decide(
        tx, ADA, SETTINGS, {row.id: row.revision}, decision=Decision.ACCEPTED, reason=Reason.RETIRE, comment="equal",
        keepers=None if keeper is None else {row.id: keeper},
    )  # fmt: skip
    return only(tx)


def approve(tx: Transaction) -> ReviewRow:
    row = only(tx)
    reviews.approve(tx, BEN, SETTINGS, {row.id: row.revision}, comment="yes")
    return only(tx)


def change(tx: Transaction, name: str, **values: object) -> None:
    """Let a sweep see a version's new aliases or tags."""
    created_ms = tx.execute("select created_ms from model_versions where name = %s", [name]).fetchone()[0]
    transitions.discover(tx, [registered(name, created_ms=created_ms, **values)], fresh_since_ms=0)


def delete(tx: Transaction, version_id: int) -> None:
    assert transitions.mark_ended(tx, version_id, state=State.DELETED, reason="gone")


def roles(row: ReviewRow) -> dict[str, str]:
    return {one.version: str(one.role) for one in row.plan.members}


def test_a_group_is_one_finding_that_names_whom_to_keep_and_whom_to_retire(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", "c", aliases=("champion",))
        row = only(tx)
    assert roles(row) == {"a/1": "keep", "b/1": "retire", "c/1": "retire"}
    assert [version.label for version in row.versions] == ["a/1", "b/1", "c/1"]
    assert title(row) == "b/1 and c/1 have the same weights as a/1, which is champion"
    assert row.plan.reason == "keep a/1 (is in use as champion), retire b/1, c/1"
    assert {one.weights_digest for one in row.plan.members} == {"same"}


def test_two_people_decide_and_only_the_targets_are_tagged_as_retired(database: Database) -> None:
    with database.transaction() as tx:
        kept, retired = same(tx, "a", "b", aliases=("champion",))
        asked = ask(tx)
        assert (asked.review.status, asked.review.requested_by) == (Status.IN_REVIEW, "ada")
        decided = approve(tx)
        assert (decided.review.status, roles(decided)) == (Status.ACCEPTED, {"a/1": "keep", "b/1": "retire"})
        tags = [tags_of([decided], each)["deltadex.review.exact_duplicate"] for each in (kept, retired)]
        assert tags == [f"finding {decided.id}: accepted ({role})" for role in ("keep", "retire")]
        assert [entry.plan.reason for entry in reviews.history(tx, BEN, SETTINGS, decided.id)] == [
            decided.plan.reason
        ] * 2


def test_a_reviewer_may_keep_another_version(database: Database) -> None:
    with database.transaction() as tx:
        _, _, newest = same(tx, "a", "b", "c")
        assert roles(only(tx)) == {"a/1": "retire", "b/1": "retire", "c/1": "keep"}
        older = only(tx).members[0].id
        ask(tx, keeper=older)
        reviews.follow(tx, SETTINGS)
        assert roles(approve(tx)) == {"a/1": "keep", "b/1": "retire", "c/1": "retire"}
        reviews.follow(tx, SETTINGS)
        assert (only(tx).review.status, only(tx).plan.role_of(newest)) == (Status.ACCEPTED, "retire")


def test_what_has_an_open_high_finding_cannot_be_kept(database: Database) -> None:
    with database.transaction() as tx:
        drifted, _ = same(tx, "a", "b")
        drift = Finding(FindingKind.DRIFT, drifted, measure=0.9, threshold=0.5)
        findings.replace(tx, [drift], version_id=drifted, recipe_id=None, kinds=[FindingKind.DRIFT])
        reviews.follow(tx, SETTINGS)
        reviews.follow(tx, SETTINGS)
        with pytest.raises(IllegalStep, match=r"a/1 has an open finding \(drift\)") as refused:
            ask(tx, keeper=drifted)
        assert "Keep b/1" in refused.value.hint


def test_what_a_later_version_superseded_cannot_be_kept(database: Database) -> None:
    with database.transaction() as tx:
        old, _ = same(tx, "a", "b")
        embedded(tx, "a", np.ones(3), version=2, created_ms=50)
        reviews.follow(tx, SETTINGS)
        with pytest.raises(IllegalStep, match="a/1 has a later version"):
            ask(tx, keeper=old)


def test_where_everything_is_in_use_nothing_can_be_retired(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", aliases=("champion",))
        change(tx, "b", tags={"deployed": "eu"})
        reviews.follow(tx, SETTINGS)
        assert roles(only(tx)) == {"a/1": "stay", "b/1": "stay"}
        with pytest.raises(IllegalStep, match="nothing can be retired: a/1 is in use as champion") as refused:
            ask(tx)
        assert "Move the alias or the deployment first" in refused.value.hint


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"aliases": ("challenger",)}, "the aliases of b/1 have changed: now challenger"),
        ({"tags": {"deployed": "yes"}}, r"b/1 is deployed \(deployed: yes\)"),
    ],
)
def test_a_request_is_void_once_a_target_is_in_use(database: Database, values: dict[str, object], said: str) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", aliases=("champion",))
        ask(tx)
        change(tx, "b", **values)
        with pytest.raises(FindingChanged, match=said):
            approve(tx)
        reviews.follow(tx, SETTINGS)
        assert (only(tx).review.status, only(tx).review.requested_by) == (Status.OPEN, "")
        assert only(tx).last.action is Action.RETURNED


@pytest.mark.parametrize("is_approved", [False, True])
def test_a_new_member_starts_a_new_proposal(database: Database, is_approved: bool) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", aliases=("champion",))
        before = ask(tx)
        if is_approved:
            approve(tx)
        pair_up(tx, [*ids, embedded(tx, "late", np.ones(3), weights="same", created_ms=9)])
        row = only(tx)
        assert (row.id, row.review.status) == (before.id, Status.OPEN)
        assert (row.last.action, row.last.comment) == (Action.RETURNED, "late/1 has joined the group")
        assert roles(row) == {"a/1": "keep", "b/1": "retire", "late/1": "retire"}


def test_a_dismissed_group_returns_with_a_new_member_only(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b")
        row = only(tx)
        reviews.decide(
            tx, ADA, SETTINGS, {row.id: row.revision}, decision=Decision.DISMISSED, reason=Reason.INTENDED_COPY,
            comment="by contract",
        )  # fmt: skip
        change(tx, "a", aliases=("champion",))
        reviews.follow(tx, SETTINGS)
        assert only(tx).review.status is Status.DISMISSED
        pair_up(tx, [*ids, embedded(tx, "late", np.ones(3), weights="same", created_ms=9)])
        assert only(tx).review.status is Status.OPEN


def test_a_retirement_ends_by_itself_when_its_targets_are_gone(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", "c", aliases=("champion",))
        ask(tx)
        row = approve(tx)
        assert [task.command for task in checklist(row, ())] == [
            f"client.delete_model_version('{name}', '1')" for name in ("b", "c")
        ]
        delete(tx, ids[1])
        reviews.follow(tx, SETTINGS)
        assert only(tx).review.status is Status.ACCEPTED, "one target is left"
        assert [task.is_done for task in checklist(only(tx), ())] == [True, False]
        change(tx, "c", tags={"mlflow.stage": "Archived"})
        reviews.follow(tx, SETTINGS)
        assert (only(tx).review.status, only(tx).last.action) == (Status.FIXED, Action.CLOSED)
        assert checklist(only(tx), ()) == []


def test_a_retirement_ends_although_others_of_its_group_stay(database: Database) -> None:
    with database.transaction() as tx:
        _, gone, _ = same(tx, "a", "b", "c", aliases=("champion",))
        change(tx, "c", aliases=("challenger",))
        reviews.follow(tx, SETTINGS)
        ask(tx)
        assert roles(approve(tx)) == {"a/1": "stay", "b/1": "retire", "c/1": "keep"}
        delete(tx, gone)
        for _ in range(2):
            reviews.follow(tx, SETTINGS)
            assert only(tx).review.status is Status.FIXED


def test_the_database_itself_refuses_to_retire_what_is_in_use(database: Database) -> None:
    """Whatever a client of the database says about the roles: the facts about the members are the finding's own."""
    with database.transaction() as tx:
        same(tx, "a", "b", aliases=("champion",))
        row = only(tx)
        plan = row.plan.evidence()
        swapped = [{**one, "role": "keep" if one["role"] == "retire" else "retire"} for one in plan["members"]]
        forged = [{**one, "holds": [], "aliases": []} for one in swapped]
    for members, said in ((swapped, "in use can't be retired"), (forged, "has changed")):
        with pytest.raises(Exception, match=said), database.transaction() as tx:
            queries.record(
                tx, row.id, Action.REQUESTED, seen=row.revision, reviewer="eve", reason="retire", comment="mine",
                chosen={"members": members},
            )  # fmt: skip


def test_groups_of_a_round_are_those_of_the_arrivals(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", "c")
        before = only(tx)
        regroup(tx, SETTINGS)
        reviews.follow(tx, SETTINGS)
        after = only(tx)
    assert (after.id, after.revision, after.finding) == (before.id, before.revision, before.finding)


def test_two_decisions_never_contradict_each_other(database: Database) -> None:
    """A version can be in a group of equal weights and, as their newest, in one of near duplicates."""
    with database.transaction() as tx:
        _, kept = same(tx, "a", "b")
        other = embedded(tx, "c", np.array([1, 1, 1.01]), created_ms=99)
        grouped(tx, [kept, other])
        reviews.follow(tx, SETTINGS)
        exact = ask(tx)
        assert roles(exact) == {"a/1": "retire", "b/1": "keep"}
        [near] = reviews.listing(tx, ADA, SETTINGS, kinds=[FindingKind.NEAR_DUPLICATE])
        assert near.plan.role_of(kept) == "retire"
        with pytest.raises(IllegalStep, match=rf"would contradict finding {exact.id} about b/1"):
            reviews.decide(
                tx, BEN, SETTINGS, {near.id: near.revision}, decision=Decision.ACCEPTED, reason=Reason.RETIRE,
                comment="alike",
            )  # fmt: skip
