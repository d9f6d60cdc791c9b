"""Clusters in which people declare several domains are divided where the geometry allows it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deltadex.clusters.partition import ALONE, cluster
from tests.synthetic import families

LEAST = 0.4


def close_and_far(spread: float = 0.5) -> np.ndarray:
    """Two families of 8 that are close to each other, and two that are far from all others."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 128))
    centres[1] = centres[0] + 0.8 * centres[1]
    return np.repeat(centres, 8, axis=0) + spread * generator.normal(size=(32, 128))


DOMAINS = ["sql"] * 8 + ["code"] * 8 + ["legal"] * 8 + ["medical"] * 8


def test_two_declared_domains_in_one_cluster_are_told_apart() -> None:
    rows = close_and_far()
    assert cluster(rows, min_similarity=LEAST).count == 3
    found = cluster(rows, min_similarity=LEAST, declared=DOMAINS)
    assert found.count == 4
    assert sorted(found.members(label) for label in range(4)) == [list(range(at, at + 8)) for at in range(0, 32, 8)]
    assert found.cut == cluster(rows, min_similarity=LEAST).cut


def test_a_mislabelled_version_stays_where_it_lies() -> None:
    domains = [*DOMAINS[:7], "code", *DOMAINS[8:]]
    found = cluster(close_and_far(), min_similarity=LEAST, declared=domains)
    assert found.count == 4
    assert len(set(found.labels[:8])) == 1


def test_two_labels_of_a_cluster_without_parts_do_not_divide_it() -> None:
    rows = families([16, 8, 8], dimension=128, spread=0.15)
    found = cluster(rows, min_similarity=LEAST, declared=DOMAINS)
    assert found.count == 3


def test_parts_that_nobody_declares_do_not_divide_a_cluster() -> None:
    rows = close_and_far()
    one_domain = ["code"] * 16 + DOMAINS[16:]
    crossed = ["sql", "code"] * 8 + DOMAINS[16:]
    for domains in (one_domain, crossed, [None] * 32):
        assert cluster(rows, min_similarity=LEAST, declared=domains).count == 3


def test_a_registry_of_one_cluster_may_be_divided_and_no_longer_says_that_it_is_not() -> None:
    rows = close_and_far(0.7)[:16]
    undivided, found = (cluster(rows, min_similarity=LEAST, declared=domains) for domains in ((), DOMAINS[:16]))
    if undivided.count == 1:
        assert "No division" in undivided.note
    assert (found.count, found.note) == (2, "")


@given(st.randoms(use_true_random=False), st.sampled_from([0.3, 0.5, 0.9]))
def test_tags_take_no_version_out_of_its_cluster(random, spread: float) -> None:
    rows = close_and_far(spread)
    domains = [random.choice(["sql", "code", "legal", None]) if random.random() < 0.3 else one for one in DOMAINS]
    before = cluster(rows, min_similarity=LEAST)
    after = cluster(rows, min_similarity=LEAST, declared=domains)
    assert np.array_equal(before.labels == ALONE, after.labels == ALONE)
    assert {frozenset(before.labels[after.members(label)].tolist()) for label in range(after.count)} <= {
        frozenset([label]) for label in range(before.count)
    }
