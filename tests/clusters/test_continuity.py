"""Clusters keep their ids while most of their members stay together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deltadex.clusters.continuity import continued

A, B = 70, 71


def test_arrivals_and_departures_change_no_id() -> None:
    before = {1: A, 2: A, 3: B, 4: B}
    assert continued(before, {1: 1, 2: 1, 3: 0, 9: 0, 10: 0}) == {1: A, 0: B}


def test_of_a_split_the_larger_part_goes_on() -> None:
    assert continued({1: A, 2: A, 3: A}, {1: 0, 2: 1, 3: 1}) == {1: A}


def test_of_two_that_become_one_the_larger_goes_on() -> None:
    assert continued({1: A, 2: A, 3: A, 4: B, 5: B}, dict.fromkeys(range(1, 6), 0)) == {0: A}


def test_a_stray_member_takes_no_name_along() -> None:
    # Version 1 moves from A, whose other members are no longer in any cluster, among B's, which have one of their own.
    before = {**dict.fromkeys(range(1, 8), A), 20: B, 21: B, 22: B}
    moved = {1: 0, 20: 0, 21: 0, 22: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 3}
    found = continued(before, moved)
    assert found[0] == B
    assert found[1] == A
    assert len(found) == 2


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 5)), st.permutations(range(6)))
def test_the_same_clusters_under_other_numbers_are_all_recognised(before: dict[int, int], number: list[int]) -> None:
    now = {version: number[cluster] for version, cluster in before.items()}
    assert continued(before, now) == {number[cluster]: cluster for cluster in before.values()}


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 5)), st.dictionaries(st.integers(0, 30), st.integers(0, 5)))
def test_each_cluster_continues_one_at_most_that_shares_a_version_with_it(
    before: dict[int, int], now: dict[int, int]
) -> None:
    found = continued(before, now)
    assert len(set(found.values())) == len(found)
    shared = {(now[version], before[version]) for version in now.keys() & before.keys()}
    assert set(found.items()) <= shared
