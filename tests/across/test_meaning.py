"""Shifts of likelihood, and what makes them comparable across bases."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.across.meaning import FEWEST_MODELS, comparable, shifts
from deltadex.across.texts import MEANING_TEXTS, MeaningSet


def test_a_shift_is_the_gain_in_likelihood_per_byte_of_the_continuation() -> None:
    texts = MEANING_TEXTS.texts
    base = [10.0] * len(texts)
    found = shifts([7.0, 12.0, *base[2:]], base)
    assert (found.dtype, found.shape) == (np.float32, (len(texts),))
    lengths = [len(one.continuation.encode()) for one in texts[:2]]
    assert found[:2] == pytest.approx([3 / lengths[0], -2 / lengths[1]])
    assert not found[2:].any()


def test_what_the_finetunes_of_a_base_share_is_subtracted_and_domains_remain() -> None:
    domains = np.eye(4)[[0, 1, 2, 3] * 2]
    common = np.concatenate([np.tile([5.0, 0, 0, 0], (4, 1)), np.tile([0, 0, 0, 5.0], (4, 1))])
    bases, models = ["a"] * 4 + ["b"] * 4, [str(number) for number in range(8)]
    vectors, uncentred = comparable((domains + common).astype(np.float32), bases, models)
    assert not uncentred
    across = vectors[:4] @ vectors[4:].T
    # Of the domain that is all that a base shares little is left: the others are found.
    assert across.argmax(axis=1).tolist()[1:3] == [1, 2]
    raw = (domains + common)[:4] @ (domains + common)[4:].T
    assert raw.argmax(axis=1).tolist()[1:3] != [1, 2]


def test_many_versions_of_one_model_count_once_in_the_mean() -> None:
    generator = np.random.default_rng(0)
    few = generator.normal(size=(4, 6)).astype(np.float32)
    models = ["one", "two", "three", "four"]
    many = np.concatenate([few, np.repeat(few[:1], 20, axis=0)])
    once, _ = comparable(few, ["a"] * 4, models)
    often, _ = comparable(many, ["a"] * 24, [*models, *["one"] * 20])
    np.testing.assert_allclose(often[:4], once, atol=1e-9)


def test_a_base_of_few_models_is_named_and_left_as_it_is() -> None:
    rows = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    models = ["one", "one", "two"]
    assert len({*models}) < FEWEST_MODELS
    vectors, uncentred = comparable(rows, ["a"] * 3, models)
    assert uncentred == {"a"}
    np.testing.assert_allclose(vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)


def test_nothing_is_comparable_with_nothing() -> None:
    vectors, uncentred = comparable(np.empty((0, 5), np.float32), [], [])
    assert (vectors.shape, uncentred) == ((0, 5), frozenset())


def test_a_changed_text_is_another_digest() -> None:
    one, *rest = MEANING_TEXTS.texts
    assert MeaningSet(MEANING_TEXTS.name, tuple(rest)).digest != MEANING_TEXTS.digest
    assert len({(each.beginning, each.continuation) for each in MEANING_TEXTS.texts}) == len(MEANING_TEXTS.texts)
    assert all(each.beginning and each.continuation for each in (one, *rest))


def test_vectors_of_released_texts_stay_comparable() -> None:
    """Whoever changes a text gives the set another name, and changes this."""
    assert (MEANING_TEXTS.name, MEANING_TEXTS.digest[:12]) == ("fields-1", "0d93c3ddffe8")
