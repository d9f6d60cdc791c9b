"""Near duplicates: all pairs, and groups that do not depend on the order of arrival."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deltadex.duplicates.pairs import connected_groups, similar_pairs
from deltadex.vectors import cosine_similarity
from tests.synthetic import families, vectors

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] != pair[1]))


@given(vectors(), st.sampled_from([-1.0, 0.0, 0.5, 0.95]))
def test_the_pairs_are_those_of_brute_force(rows: np.ndarray, threshold: float) -> None:
    similarity = cosine_similarity(rows)
    clear = np.abs(similarity - threshold) > 1e-9
    found = set(similar_pairs(rows, threshold)[["first", "second"]].tolist())
    for first in range(len(rows)):
        for second in range(first + 1, len(rows)):
            if clear[first, second]:
                assert ((first, second) in found) == (similarity[first, second] >= threshold)


def test_blocks_change_nothing() -> None:
    rows = families([300, 300], dimension=8, spread=1.0)
    expected = int(np.triu(cosine_similarity(rows) >= 0.9, k=1).sum())
    assert len(similar_pairs(rows, 0.9)) == expected


@given(PAIRS, st.randoms())
def test_the_order_of_pairs_never_changes_the_groups(pairs: list[tuple[int, int]], random) -> None:
    shuffled = [pair[::-1] if random.random() < 0.5 else pair for pair in random.sample(pairs, len(pairs))]
    assert connected_groups(shuffled) == connected_groups(pairs)


@given(PAIRS)
def test_groups_are_disjoint_and_hold_every_pair(pairs: list[tuple[int, int]]) -> None:
    groups = connected_groups(pairs)
    members = [member for group in groups for member in group]
    assert len(members) == len(set(members))
    for one, other in pairs:
        assert any({one, other} <= set(group) for group in groups)
