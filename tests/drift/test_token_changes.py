"""Differences between the promoted tokens of two versions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deltadex.drift.token_changes import moved
from deltadex.types import Word, Words

TOKENS = tuple("abcdefghijklmnop")


def of(*said: tuple[str, float]) -> Words:
    words = [Word(text, score) for text, score in said]
    promoted = sorted((word for word in words if word.score > 0), key=lambda word: -word.score)
    return Words(
        tuple(promoted), tuple(sorted((word for word in words if word.score < 0), key=lambda word: word.score))
    )


def ends(scores: dict[str, float], kept: int) -> Words:
    """What is kept of all scores: the furthest in each direction."""
    order = sorted(scores.items(), key=lambda one: -one[1])
    return Words(tuple(Word(*one) for one in order[:kept]), tuple(Word(*one) for one in order[::-1][:kept]))


def test_tokens_on_both_lists_rise_by_their_difference_and_others_by_what_is_sure() -> None:
    before = of(("SELECT", 5.0), ("from", 2.0), ("the", -1.0), ("whereas", -4.0))
    after = of(("Whereas", 3.0), ("from", 2.5), ("the", -1.0), ("SELECT", -2.0))
    found = moved(before, after)
    assert found.promoted == (Word("Whereas", 7.0), Word("from", 0.5))
    assert found.demoted == (Word("SELECT", -7.0),)


def test_what_one_version_only_says_rises_from_the_end_of_the_others_list() -> None:
    found = moved(of(("a", 5.0), ("b", 3.0), ("z", -1.0)), of(("c", 4.0), ("a", 3.5), ("z", -2.0)))
    assert found.promoted == (Word("c", 1.0),)
    assert found.demoted == (Word("a", -1.5), Word("z", -1.0))


def test_without_words_of_both_there_are_none_and_it_says_why() -> None:
    nothing = Words(note="The base has no output head.")
    assert moved(of(("a", 1.0)), nothing) == moved(nothing, of(("a", 1.0))) == nothing


@given(st.lists(st.floats(-5, 5), min_size=16, max_size=16), st.lists(st.floats(-5, 5), min_size=16, max_size=16))
def test_every_token_that_is_named_moved_at_least_that_far(first: list[float], second: list[float]) -> None:
    one, other = (dict(zip(TOKENS, scores, strict=True)) for scores in (first, second))
    found = moved(ends(one, 4), ends(other, 4))
    for word in found.promoted:
        assert other[word.text] - one[word.text] >= word.score - 1e-3
    for word in found.demoted:
        assert other[word.text] - one[word.text] <= word.score + 1e-3


def test_words_that_are_told_apart_are_not_compared_with_words_that_are_not() -> None:
    plain = of(("SELECT", 5.0), ("the", -1.0))
    assert moved(plain, replace(plain, among=7)).note
    assert not moved(replace(plain, among=5), replace(plain, among=7)).note
