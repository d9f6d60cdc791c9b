"""Clusters are deterministic, for few and for many models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from deltadex.clusters.names import name_clusters
from deltadex.clusters.partition import ALONE, cluster
from deltadex.types import ModelVersionRef, RegisteredVersion
from deltadex.vectors import cosine_similarity, unit_vectors
from tests.synthetic import families, vectors


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label)) for label in set(labels) - {ALONE}}


def test_families_are_found_the_largest_first() -> None:
    found = cluster(families([3, 6, 4]), min_similarity=0.4)
    assert list(found.labels) == [2] * 3 + [0] * 6 + [1] * 4
    assert found.count == 3
    assert found.silhouette is not None
    assert found.silhouette > 0.8
    assert (found.strengths > 0.9).all()


def test_the_similarity_that_makes_a_family_is_the_pools_own() -> None:
    # What all share brings unrelated models to similarities of .54, as on a pool of really trained finetunes.
    unrelated, shared = families([5, 5, 5], dimension=512, spread=0.3), 1.1 * families([1], seed=9, dimension=512)
    similarity = cosine_similarity(unrelated + shared)
    assert similarity[0, 5] > 0.5
    assert cluster(unrelated + shared, min_similarity=0.4).count == 3
    assert cluster(unrelated, min_similarity=0.4).count == 3


def test_models_of_one_family_are_not_divided_and_it_says_so() -> None:
    found = cluster(families([12], dimension=256, spread=0.4), min_similarity=0.4)
    assert set(found.labels) == {0}
    assert found.silhouette is None
    assert "No division" in found.note


# other work on the machine is no fault
@given(vectors(min_rows=3), st.randoms(), st.sampled_from([3, 5, 100]))
def test_the_order_of_rows_changes_no_cluster(rows: np.ndarray, random, at_once: int) -> None:
    order = random.sample(range(len(rows)), len(rows))
    found = cluster(rows, min_similarity=0.5, at_once=at_once)
    original = as_sets(found.labels)
    shuffled = as_sets(cluster(rows[order], min_similarity=0.5, at_once=at_once).labels)
    # Equal rows may change places with each other, and nothing else.
    key = [unit.tobytes() for unit in unit_vectors(rows)]
    by_content = lambda groups, at: sorted(sorted(key[at(i)] for i in group) for group in groups)  # noqa: E731
    assert by_content(shuffled, lambda i: order[i]) == by_content(original, lambda i: i)
    assert np.array_equal(np.isnan(found.strengths), found.labels == ALONE)


@given(vectors(min_rows=3, max_rows=12))
def test_every_join_is_as_similar_as_the_cut(rows: np.ndarray) -> None:
    found = cluster(rows, min_similarity=0.5)
    assert found.cut >= 0.5
    similarity = cosine_similarity(rows)
    for label in range(found.count):
        members = found.members(label)
        among = similarity[np.ix_(members, members)].sum(axis=1) - 1
        assert found.strengths[members] == pytest.approx(among / (len(members) - 1), abs=1e-5)
        assert among.sum() / (len(members) * (len(members) - 1)) >= found.cut - 1e-6


def test_the_silhouette_that_chooses_is_scikit_learns() -> None:
    rows = families([6, 5, 4, 1], spread=0.5)
    found = cluster(rows, min_similarity=0.3)
    apart = np.where(found.labels == ALONE, found.count + np.arange(len(rows)), found.labels)
    assert found.count > 1
    assert found.silhouette == pytest.approx(silhouette_score(rows, apart, metric="cosine"), abs=1e-6)


def test_more_models_than_at_once_fall_into_the_same_clusters() -> None:
    rows = families([200, 90, 60, 40, 1], dimension=64)
    whole = cluster(rows, min_similarity=0.4)
    assert as_sets(whole.labels) == as_sets(cluster(rows, min_similarity=0.4, at_once=50).labels)
    assert whole.labels[-1] == ALONE


def test_what_a_sample_missed_is_found_among_what_joined_nothing() -> None:
    rows = np.vstack([families([300], seed=1), families([4], seed=2), families([1], seed=3)])
    found = cluster(rows, min_similarity=0.4, at_once=30)
    assert list(found.labels) == [0] * 300 + [1] * 4 + [ALONE]


def test_the_previous_cut_stays_where_it_divides_about_as_well() -> None:
    # Families within domains: two levels of one hierarchy, whose silhouettes are .733 and .734.
    generator = np.random.default_rng(0)
    domains, families_within = generator.normal(size=(3, 64)), 0.6 * generator.normal(size=(9, 64))
    rows = np.repeat(domains, 12, axis=0) + np.repeat(families_within, 4, axis=0)
    rows += 0.35 * generator.normal(size=rows.shape)
    fine = cluster(rows, min_similarity=0.3, previous_cut=0.8)
    coarse = cluster(rows, min_similarity=0.3, previous_cut=0.48)
    assert (fine.count, coarse.count) == (9, 3)
    assert (fine.cut, coarse.cut) == (0.8, 0.48)
    assert cluster(rows, min_similarity=0.3, previous_cut=0.95).cut != 0.95


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_models_are_said_to_be_too_few(count: int) -> None:
    found = cluster(families([count]), min_similarity=0.5)
    assert set(found.labels) <= {ALONE}
    assert "at least 3" in found.note


def test_a_model_that_is_like_no_other_is_alone() -> None:
    rows = np.vstack([families([4]), -families([4])[:1]])
    found = cluster(rows, min_similarity=0.5)
    assert found.labels[-1] == ALONE
    assert np.isnan(found.strengths[-1])


def test_unrelated_models_are_no_cluster_because_others_are_less_related_still() -> None:
    rows = np.vstack([families([6], spread=0.1), np.eye(32)[:4]])
    assert list(cluster(rows, min_similarity=0.4).labels) == [0] * 6 + [ALONE] * 4


def member(name: str, **tags: str) -> RegisteredVersion:
    return RegisteredVersion(ModelVersionRef("acme", name, 1, 1), "runs:/x", tags=tags)


def test_a_cluster_is_named_by_what_most_members_say_and_where_it_came_from() -> None:
    [tagged] = name_clusters([[member("a", domain="sql"), member("b", domain="sql"), member("c")]])
    assert (tagged.text, "tag" in tagged.origin) == ("sql", True)
    [worded] = name_clusters([[member("legal-drafter"), member("legal-helper"), member("x")]])
    assert (worded.text, "names" in worded.origin) == ("legal", True)
    assert name_clusters([[member("one-lora"), member("two-lora")]])[0].text == "cluster 1"
