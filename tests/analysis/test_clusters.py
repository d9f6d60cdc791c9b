"""Clusters: deterministic, for few models and many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.analysis.clusters import ALONE, cluster
from deltadex.analysis.domains import name_clusters
from deltadex.domain import ModelVersionRef, RegisteredVersion
from tests.analysis.vectors import families, vectors


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label)) for label in set(labels) - {ALONE}}


def test_families_are_found_the_largest_first() -> None:
    found = cluster(families([3, 6, 4]), min_similarity=0.6)
    assert list(found.labels) == [2] * 3 + [0] * 6 + [1] * 4
    assert found.count == 3
    assert found.silhouette is not None
    assert found.silhouette > 0.8


@given(vectors(min_rows=3), st.randoms())
def test_the_order_of_rows_changes_no_cluster(rows: np.ndarray, random) -> None:
    order = random.sample(range(len(rows)), len(rows))
    original = as_sets(cluster(rows, min_similarity=0.5).labels)
    shuffled = as_sets(cluster(rows[order], min_similarity=0.5).labels)
    sizes = sorted(map(len, original)), sorted(map(len, shuffled))
    assert sizes[0] == sizes[1]
    # Equal rows may change places with each other, and nothing else.
    key = [row.tobytes() for row in rows]
    by_content = lambda groups, at: sorted(sorted(key[at(i)] for i in group) for group in groups)  # noqa: E731
    assert by_content(shuffled, lambda i: order[i]) == by_content(original, lambda i: i)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_models_are_said_to_be_too_few(count: int) -> None:
    found = cluster(families([count]), min_similarity=0.5)
    assert set(found.labels) <= {ALONE}
    assert "at least 3" in found.note


def test_a_model_that_is_like_no_other_is_alone() -> None:
    rows = np.vstack([families([4]), -families([4])[:1]])
    assert cluster(rows, min_similarity=0.5).labels[-1] == ALONE


def member(name: str, **tags: str) -> RegisteredVersion:
    return RegisteredVersion(ModelVersionRef("acme", name, 1, 1), "runs:/x", tags=tags)


def test_a_cluster_is_named_by_what_most_members_say_and_where_it_came_from() -> None:
    [tagged] = name_clusters([[member("a", domain="sql"), member("b", domain="sql"), member("c")]])
    assert (tagged.text, "tag" in tagged.origin) == ("sql", True)
    [worded] = name_clusters([[member("legal-drafter"), member("legal-helper"), member("x")]])
    assert (worded.text, "names" in worded.origin) == ("legal", True)
    assert name_clusters([[member("one-lora"), member("two-lora")]])[0].text == "cluster 1"
