"""Bad luck and bad intentions, and a group's decision that stands them."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.duplicates import overview
from deltadex.duplicates.group_queries import stored_groups
from deltadex.duplicates.regroup import _anchored, regroup, regroup_around
from deltadex.errors import FindingChanged, IllegalStep
from deltadex.findings import queries as findings
from deltadex.ingest.round import judge_relabelled
from deltadex.reviews import actions as reviews
from deltadex.reviews import queries
from deltadex.reviews.lifecycle import Action, Status
from deltadex.reviews.tags import tags_of
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from tests.reviews.test_groups import (
    BEN,
    EXACT,
    SETTINGS,
    approve,
    ask,
    change,
    delete,
    only,
    pair_up,
    roles,
    same,
)  # fmt: skip
from tests.stored import REGISTRY, embedded, grouped

TAG = "deltadex.review.exact_duplicate"


@pytest.mark.parametrize("role", ["retire", "anything", None])
def test_the_database_takes_no_plan_that_retires_everything_or_that_cannot_be_read(
    database: Database, role: str | None
) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b")
        row = only(tx)
        members = [{**one, "role": role} for one in row.plan.evidence()["members"]]
    with pytest.raises(Exception, match="not a plan"), database.transaction() as tx:
        queries.record(
            tx, row.id, Action.REQUESTED, seen=row.revision, reviewer="eve", reason="retire", comment="mine",
            chosen={"members": members},
        )  # fmt: skip


@pytest.mark.parametrize(
    "forged", [{"freed_bytes": "much"}, {"reason": 1}, {"advice": []}, {"replays": "none"}, {"replays": [{}]}]
)
def test_the_database_takes_no_plan_of_other_types(database: Database, forged: dict[str, object]) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b")
        row = only(tx)
    with pytest.raises(Exception, match="not a plan"), database.transaction() as tx:
        queries.record(
            tx, row.id, Action.REQUESTED, seen=row.revision, reviewer="eve", reason="retire", comment="mine",
            chosen={**row.plan.evidence(), **forged},
        )  # fmt: skip


def test_a_request_to_keep_what_has_been_superseded_since_is_not_approved(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b")
        assert roles(ask(tx)) == {"a/1": "retire", "b/1": "keep"}
        embedded(tx, "b", np.ones(3), version=2, created_ms=50)
        for _ in range(2):
            with pytest.raises((FindingChanged, IllegalStep)):
                approve(tx)
            reviews.follow(tx, SETTINGS)


def test_a_request_one_of_whose_versions_is_gone_is_returned(database: Database) -> None:
    with database.transaction() as tx:
        _, _, gone = same(tx, "a", "b", "c", aliases=("champion",))
        ask(tx)
        delete(tx, gone)
        reviews.follow(tx, SETTINGS)
        assert (only(tx).review.status, only(tx).last.action) == (Status.OPEN, Action.RETURNED)


def test_carrying_out_a_retirement_of_copies_does_not_void_it(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", "c")
        tx.execute("update model_versions set source = 'models:/a/1' where name in ('b', 'c')")
        reviews.follow(tx, SETTINGS)
        ask(tx)
        assert roles(approve(tx)) == {"a/1": "keep", "b/1": "retire", "c/1": "retire"}
        delete(tx, ids[1])
        reviews.follow(tx, SETTINGS)
        assert only(tx).review.status is Status.ACCEPTED, only(tx).last.comment
        delete(tx, ids[2])
        reviews.follow(tx, SETTINGS)
        assert only(tx).review.status is Status.FIXED


def test_carrying_out_a_retirement_of_a_copy_and_another_does_not_void_it(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", "c")
        tx.execute("update model_versions set source = 'models:/a/1' where name = 'b'")
        reviews.follow(tx, SETTINGS)
        ask(tx)
        approve(tx)
        delete(tx, ids[1])
        reviews.follow(tx, SETTINGS)
        assert only(tx).review.status is Status.ACCEPTED, only(tx).last.comment


def test_nobody_is_tagged_as_retired_by_a_decision_that_is_void_or_refused(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", aliases=("champion",))
        ask(tx)
        row = only(tx)
        reviews.refuse(tx, BEN, SETTINGS, {row.id: row.revision}, comment="no")
        assert {tags_of([only(tx)], each)[TAG] for each in ids} == {f"finding {row.id}: in_review"}
        ask(tx)
        approve(tx)
        ids.append(embedded(tx, "late", np.ones(3), weights="same", created_ms=9))
        pair_up(tx, ids)
        assert {tags_of([only(tx)], each)[TAG] for each in ids} == {f"finding {row.id}: open"}


def test_the_last_of_a_group_is_not_tagged_as_retired(database: Database) -> None:
    with database.transaction() as tx:
        keeper, target = same(tx, "a", "b", aliases=("champion",))
        ask(tx)
        approve(tx)
        delete(tx, keeper)
        reviews.follow(tx, SETTINGS)
        assert "retire" not in tags_of([only(tx)], target)[TAG]


def test_a_target_that_has_left_the_group_is_not_retired(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", "c", aliases=("champion",))
        change(tx, "c", aliases=("challenger",))
        reviews.follow(tx, SETTINGS)
        ask(tx)
        approve(tx)
        grouped(tx, [ids[0], ids[2]], kind=EXACT)
        reviews.follow(tx, SETTINGS)
        row = only(tx)
        assert (row.review.status, row.last.action) == (Status.OPEN, Action.RETURNED), row.last
        assert "retire" not in tags_of([row], ids[1]).get(TAG, "")


def test_the_name_of_a_hidden_keeper_that_is_gone_stays_hidden(database: Database) -> None:
    guest = Person("guest", Role.VIEWER, ("a", "b", "c"))
    with database.transaction() as tx:
        ids = same(tx, "a", "b", "c")
        hidden = embedded(tx, "secret", np.ones(3), weights="same", created_ms=9, aliases=("champion",))
        pair_up(tx, [*ids, hidden])
        ask(tx)
        assert approve(tx).plan.keeper.version == "secret/1"
        delete(tx, hidden)
        reviews.follow(tx, SETTINGS)
        row = only(tx)
        assert row.last.action is Action.RETURNED
        [seen] = reviews.listing(tx, guest, SETTINGS, kinds=[EXACT])
        said = repr([seen, reviews.history(tx, guest, SETTINGS, row.id), reviews.log(tx, guest, SETTINGS)])
    assert "secret" not in said, said[max(0, said.find("secret") - 300) : said.find("secret") + 60]


def test_the_owner_of_a_hidden_oldest_version_stays_hidden_when_it_is_gone(database: Database) -> None:
    guest = Person("guest", Role.VIEWER, ("a", "b", "c"))
    with database.transaction() as tx:
        ids = same(tx, "secret", "a", "b", tags={"owner": "mallory"})
        assert only(tx).owner == "mallory"
        delete(tx, ids[0])
        reviews.follow(tx, SETTINGS)
        [seen] = reviews.listing(tx, guest, SETTINGS, kinds=[EXACT])
    assert "mallory" not in seen.owner
    assert "secret" not in repr(seen)


def near(tx: Transaction, *ids: int) -> None:
    """Let the pairs of near duplicates be found."""
    newer = ids[-1]
    found = [Finding(FindingKind.NEAR_DUPLICATE, newer, older, 1.0, 0.95) for older in ids[:-1]]
    recipe_id = tx.execute("select id from recipes").fetchone()[0]
    findings.replace(tx, found, version_id=newer, recipe_id=recipe_id, kinds=[FindingKind.NEAR_DUPLICATE])


@pytest.mark.parametrize("most", [overview.COMPARED_AT_MOST, 0])
def test_groups_of_a_large_registry_do_not_change_between_arrivals_and_rounds(
    database: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Versions of one model that supersede each other are no findings, from which the pairs of many are read."""
    monkeypatch.setattr(overview, "COMPARED_AT_MOST", most)
    with database.transaction() as tx:
        first = embedded(tx, "m", np.ones(3), created_ms=1)
        second = embedded(tx, "m", np.ones(3), version=2, created_ms=2)
        other = embedded(tx, "x", np.ones(3), created_ms=3)
        archived = embedded(tx, "old", np.ones(3), created_ms=4, tags={"mlflow.stage": "Archived"})
        near(tx, first, second, other, archived)
        near(tx, first, second, other)
        regroup_around(tx, SETTINGS, [other])
        before = stored_groups(tx, REGISTRY)
        assert [one.ids for one in before] == [frozenset({second, other})]
        regroup(tx, SETTINGS)
        assert [one.ids for one in stored_groups(tx, REGISTRY)] == [frozenset({second, other})]


def test_a_group_whose_keys_are_all_taken_is_left_out_and_stops_nothing(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b")
        [group] = stored_groups(tx, REGISTRY)
        taken = {(EXACT, each) for each in group.ids}
        assert _anchored([], [group], taken) == []


def test_a_later_version_that_is_archived_supersedes_nothing(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", aliases=("champion",))
        embedded(tx, "b", np.ones(3), version=2, created_ms=50, tags={"mlflow.stage": "Archived"})
        change(tx, "a")
        reviews.follow(tx, SETTINGS)
        assert roles(only(tx)) == {"a/1": "retire", "b/1": "keep"}


def test_a_version_that_is_restored_joins_its_group_again(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", aliases=("champion",))
        ask(tx)
        approve(tx)
        change(tx, "b", tags={"mlflow.stage": "Archived"})
        reviews.follow(tx, SETTINGS)
        assert only(tx).review.status is Status.FIXED
        change(tx, "b")
    judge_relabelled(database, SETTINGS)
    with database.transaction() as tx:
        assert (only(tx).is_found, only(tx).review.status) == (True, Status.OPEN)
