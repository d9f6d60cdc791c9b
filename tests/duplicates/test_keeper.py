"""Proposals: what is kept, what is retired, what is left alone, and when nothing is proposed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.duplicates.keeper import Policy, Proposal, Standing, in_use, propose
from deltadex.types import Provenance, VersionRow
from tests.duplicates.test_levels import version

POLICY = Policy(deployed_tags=("endpoint",))
COPIED, WRONG, OUTDATED = (
    Standing(("has the copy b/1",)),
    Standing(open_high=("wrong base",)),
    Standing(is_latest=False),
)


def proposal(rows: list[VersionRow], standings: dict[int, Standing] | None = None, policy: Policy = POLICY) -> Proposal:
    return propose(rows, standings or {}, policy)[0]


def kept(found: Proposal) -> int:
    assert found.keeper is not None
    return found.keeper.id


def retired(found: Proposal) -> list[int]:
    return [row.id for row in found.retired]


@pytest.mark.parametrize(
    ("rows", "keeper", "reason"),
    [
        ([version(0), version(1)], 1, "the newest"),
        ([version(0, aliases=("champion",)), version(1)], 0, "is in use as champion"),
        ([version(0, tags={"endpoint": "eu-1"}), version(1)], 0, "is deployed (endpoint: eu-1)"),
        ([version(0, tags={"endpoint": "none"}), version(1)], 1, "the newest"),
        ([version(0, tags={"deltadex.usage": "900"}), version(1)], 0, "is used (900)"),
        ([version(0, tags={"deltadex.usage": "300/day"}), version(1)], 0, "is used (300/day)"),
        ([version(0, tags={"deltadex.usage": "0"}), version(1)], 1, "the newest"),
        ([version(0, tags={"Endpoint": "eu-1"}), version(1)], 0, "is deployed (Endpoint: eu-1)"),
        (
            [version(0, aliases=("a",)), version(1, aliases=("b",)), version(2)],
            1,
            "is in use as b, the newest of those",
        ),
    ],
)
def test_a_version_in_use_is_kept_then_the_most_used_then_the_newest(
    rows: list[VersionRow], keeper: int, reason: str
) -> None:
    found = proposal(rows)
    assert (kept(found), found.reason, found.advice) == (keeper, reason, "")


def test_a_metric_decides_where_all_have_it() -> None:
    one, other = (version(row, provenance=Provenance(metrics={"loss": loss})) for row, loss in enumerate((0.2, 0.5)))
    assert kept(proposal([one, other], policy=Policy("-loss"))) == 0
    assert proposal([one, other], policy=Policy("-loss")).reason == "best loss (0.2)"
    assert kept(proposal([one, other], policy=Policy("loss"))) == 1
    assert kept(proposal([one, other, version(2)], policy=Policy("-loss"))) == 2


def test_two_versions_in_use_are_both_left_alone_and_what_would_help_is_said() -> None:
    rows = [version(0, aliases=("a",)), version(1, aliases=("b",))]
    found = proposal(rows)
    assert (found.keeper, retired(found)) == (None, [])
    assert found.reason == "nothing can be retired: model-0/1 is in use as a"
    assert "Move the alias" in found.advice
    assert retired(proposal([*rows, version(2)])) == [2]


def test_what_has_a_copy_is_kept_or_at_least_not_retired() -> None:
    found = proposal([version(0), version(1)], {0: COPIED})
    assert (kept(found), found.reason, retired(found)) == (0, "has the copy b/1", [1])
    found = proposal([version(0), version(1, aliases=("champion",))], {0: COPIED})
    assert (found.keeper, found.spared) == (None, {0: "has the copy b/1"})


def test_a_version_with_an_open_high_finding_is_retired_rather_than_kept() -> None:
    found = proposal([version(0), version(1)], {1: WRONG})
    assert (kept(found), retired(found)) == (0, [1])


@pytest.mark.parametrize("standings", [{0: WRONG}, {0: WRONG, 1: WRONG}])
def test_a_champion_with_an_open_high_finding_stops_the_proposal(standings: dict[int, Standing]) -> None:
    found = proposal([version(0, aliases=("champion",)), version(1)], standings)
    assert (found.keeper, retired(found)) == (None, [])
    assert "model-0/1 is in use as champion and has an open finding (wrong base)" in found.reason
    assert found.advice


def test_where_every_version_has_an_open_high_finding_none_is_kept() -> None:
    found = proposal([version(0), version(1)], {0: WRONG, 1: WRONG})
    assert (found.keeper, found.advice) == (None, "Decide those findings first.")


def test_a_superseded_version_is_kept_only_if_nothing_better_is_there() -> None:
    rows = [version(0), version(1)]
    assert kept(proposal(rows, {1: OUTDATED})) == 0
    assert kept(proposal(rows, {0: OUTDATED, 1: OUTDATED})) == 1
    assert kept(proposal([version(0), version(1, aliases=("champion",))], {1: OUTDATED})) == 1


def test_the_newest_version_of_a_model_is_not_retired_in_favour_of_an_older_one() -> None:
    older, champion, newest = version(0, model="m"), version(1, model="m", aliases=("champion",)), version(2, model="m")
    found = proposal([older, champion, newest], {0: OUTDATED, 1: OUTDATED})
    assert (kept(found), retired(found)) == (1, [0])
    assert found.spared == {2: "is the newest version of its model"}
    assert "newest version first" in proposal([champion, newest], {1: OUTDATED}).advice
    unsound = proposal([champion, newest], {1: OUTDATED, 2: WRONG})
    assert (unsound.keeper, unsound.advice) == (None, "Decide the open finding about m/3 first (wrong base).")


TAGS = st.fixed_dictionaries({}, optional={"endpoint": st.sampled_from(["eu", "none"]), "deltadex.usage": st.just("3")})
STANDINGS = st.builds(
    Standing,
    st.sampled_from([(), ("has the copy b/1",)]),
    st.sampled_from([(), ("wrong base",)]),
    st.booleans(),
)
MEMBERS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([(), ("champion",)]), TAGS, STANDINGS), min_size=2, max_size=6
)


@given(MEMBERS)
def test_no_registry_has_an_unsafe_proposal(
    members: list[tuple[str, tuple[str, ...], dict[str, str], Standing]],
) -> None:
    rows = [
        version(number, model=model, aliases=aliases, tags=tags)
        for number, (model, aliases, tags, _) in enumerate(members)
    ]
    standings = {number: standing for number, (*_, standing) in enumerate(members)}
    found, best = propose(rows, standings, POLICY)
    is_needed = {row.id: bool(in_use(row, POLICY) or standings[row.id].needed_by) for row in rows}
    assert best in rows
    assert (found.keeper is None) == (not found.retired) == bool(found.advice)
    assert found.reason
    for row in found.retired:
        assert not is_needed[row.id]
        assert row.id not in found.spared
    if found.keeper is None:
        return
    assert found.keeper not in found.retired
    assert {row.id for row in (found.keeper, *found.retired)} | {*found.spared} == {row.id for row in rows}
    assert not standings[found.keeper.id].open_high
    assert not any(standings[row.id].open_high and is_needed[row.id] for row in rows)
    if not is_needed[found.keeper.id] and not standings[found.keeper.id].is_latest:
        assert not any(
            standings[row.id].is_latest or in_use(row, POLICY) for row in rows if not standings[row.id].open_high
        )
    for row in found.retired:
        if row.registered.ref.name == found.keeper.registered.ref.name and standings[row.id].is_latest:
            assert row.registered.ref.age < found.keeper.registered.ref.age
