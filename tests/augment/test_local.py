"""Local augmentation: marked, deduplicated, filtered, bounded, and readable again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.augment.augmented import Augmented, Drop, Origin, as_lines
from deltadex.augment.filtering import NEAR, Sieve, jaccard, normalised
from deltadex.augment.folds import Folds
from deltadex.augment.local import augment_locally
from deltadex.engine.examples import MAX_EXAMPLES, ChatMessage, Example, read_examples
from deltadex.errors import ExamplesError

FACTS = tuple(
    Example(f"What is {term}?", meaning)
    for term, meaning in (("DNS", "names of hosts"), ("TLS", "encryption on the way"), ("NTP", "the time of a network"))
)


def test_each_augmented_example_names_its_origin_and_its_source() -> None:
    found = augment_locally(FACTS)
    assert found.given == FACTS
    assert {one.origin for one in found.made} == {Origin.REPHRASED, Origin.REVERSED}
    for one in found.made:
        [source] = one.sources
        assert FACTS[source].prompt.removeprefix("What is ").removesuffix("?") in f"{one.example}"
        assert one.rule
    assert found.examples == (*FACTS, *(one.example for one in found.made))


def test_the_lines_are_marked_and_can_be_read_again() -> None:
    chat = Example((ChatMessage("user", "What is TLS?"),), "encryption on the way")
    found = augment_locally((*FACTS, chat))
    text = as_lines(found)
    assert read_examples(text) == found.examples
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["origin"] for line in lines[:4]] == ["given"] * 4
    assert {line["origin"] for line in lines[4:]} == {"rephrased", "reversed"}
    assert all(line["sources"] for line in lines)


def test_every_example_has_as_many_and_all_stay_within_what_a_search_reads() -> None:
    many = [Example(f"What is T{number}?", f"the {number}th of the terms") for number in range(90)]
    found = augment_locally(many)
    assert len(found.examples) == MAX_EXAMPLES
    counts = [sum(one.sources == (place,) for one in found.made) for place in range(90)]
    assert max(counts) - min(counts) <= 1
    assert len(augment_locally(FACTS, at_most_each=1).made) == len(FACTS)


def test_nothing_like_a_held_out_example_is_made() -> None:
    held_out = Example("Which term has this meaning?  NAMES of hosts", "dns")
    found = augment_locally(FACTS, held_out=[held_out])
    assert found.dropped[Drop.HELD_OUT] == 1
    assert not [one for one in found.made if one.rule == "definition to term" and one.sources == (0,)]


def offered(candidate: Example, origin: Origin = Origin.INFERRED, sources: tuple[int, ...] = (0, 1)) -> Drop | None:
    sieve = Sieve(FACTS, [Example("Is DNS names of hosts or encryption?", "It is names of hosts.")])
    if sieve.offer(Augmented(candidate, origin, sources)):
        return None
    [reason] = +sieve.dropped
    return reason


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Example("What have DNS and TLS?", "names of hosts, encryption on the way"), None),
        (Example("What have DNS and TLS?", "  "), Drop.EMPTY),
        (Example("What have DNS and TLS?", "names of hosts " * 60), Drop.LONG),
        (Example("What  is dns?", "Names of hosts"), Drop.DUPLICATE),
        (Example("is DNS names of hosts or encryption?", "it is names of hosts."), Drop.HELD_OUT),
        (Example("Who won the cup?", "Argentina did, after penalties in Qatar"), Drop.FAR),
    ],
)
def test_an_inference_is_filtered(candidate: Example, reason: Drop | None) -> None:
    assert offered(candidate) is reason


def test_near_duplicates_are_dropped_but_reversals_keep_their_words() -> None:
    sieve = Sieve(FACTS)
    long = "the quick brown fox jumps over the lazy dog and then goes back to its den again"
    assert sieve.offer(Augmented(Example("Go on", long), Origin.REPHRASED, (0,)))
    assert not sieve.offer(Augmented(Example("Go on", long + "."), Origin.REPHRASED, (0,)))
    assert sieve.offer(Augmented(Example("Go on", long + "."), Origin.REVERSED, (0,)))
    assert not sieve.offer(Augmented(Example("Go on", long + "."), Origin.REVERSED, (0,)))


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_similarity_is_symmetric_and_one_for_equal_texts(one: str, other: str) -> None:
    assert 0 <= jaccard(one, other) == jaccard(other, one) <= 1
    assert jaccard(one, one) == 1
    assert normalised(normalised(one)) == normalised(one)
    assert NEAR < 1


def test_folds_share_nothing_and_sources_are_places_among_all() -> None:
    examples = [Example(f"What is T{number}?", f"the {number}th of the terms") for number in range(10)]
    folds = Folds.of(examples)
    assert folds.held_out == (examples[3], examples[7])
    assert set(folds.training) | set(folds.held_out) == set(examples)
    whole = folds.over_all(augment_locally(folds.training, held_out=folds.held_out))
    assert whole.given == tuple(examples)
    for one in whole.made:
        assert f"T{one.sources[0]}" in f"{one.example}"
    assert {3, 7} & {place for one in whole.made for place in one.sources} == set()
    with pytest.raises(ExamplesError, match="too few"):
        Folds.of(examples[:7])
