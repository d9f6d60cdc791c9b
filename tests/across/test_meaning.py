"""Differences of likelihood, and what makes them comparable across bases."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.across.meaning import FEWEST_MODELS, Meaning, comparable
from deltadex.across.texts import MEANING_TEXTS
from deltadex.engine.text_requests import Scanned
from deltadex.types import FloatArray

NONE = np.empty((0, 3), np.float32)


def rows(count: int, size: int = 6, *, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_a_difference_is_per_byte_of_a_text_and_unknown_for_what_is_no_token() -> None:
    count = len(MEANING_TEXTS.texts)
    base = Scanned((-10.0,) * count, (-3.0, None))
    found = Meaning.between(Scanned((-7.0, -12.0, *(-10.0,) * (count - 2)), (-2.5, None)), base)
    assert (found.texts.dtype, found.texts.shape) == (np.float32, (count,))
    lengths = [len(one.text.encode()) for one in MEANING_TEXTS.texts[:2]]
    assert found.texts[:2] == pytest.approx([3 / lengths[0], -2 / lengths[1]])
    assert not found.texts[2:].any()
    assert found.tokens[0] == pytest.approx(0.5)
    assert np.isnan(found.tokens[1])


def test_what_the_finetunes_of_a_base_share_is_subtracted_and_domains_remain() -> None:
    domains = rows(5, 40, seed=1)
    common = 6 * rows(2, 40, seed=2)
    texts = np.concatenate([domains + common[0], domains + common[1]])
    bases, models = ["a"] * 5 + ["b"] * 5, [str(number) for number in range(10)]
    vectors, uncentred = comparable(texts, np.zeros((10, 3), np.float32), bases, models)
    assert not uncentred
    assert (vectors[:5] @ vectors[5:].T).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert (texts[:5] @ texts[5:].T).argmax(axis=1).tolist() != [0, 1, 2, 3, 4]


def test_an_entry_that_moves_more_than_all_others_on_one_base_counts_like_them() -> None:
    domains = rows(5, 40, seed=1)
    loud = domains.copy()
    loud[:, 0] += 30 * rows(5, 1, seed=3)[:, 0]
    bases, models = ["a"] * 5 + ["b"] * 5, [str(number) for number in range(10)]
    vectors, _ = comparable(np.concatenate([domains, loud]), np.zeros((10, 3), np.float32), bases, models)
    assert (vectors[:5] @ vectors[5:].T).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_many_versions_of_one_model_count_once() -> None:
    few, models = rows(4), ["one", "two", "three", "four"]
    often = np.concatenate([few, np.repeat(few[:1], 20, axis=0)])
    once, _ = comparable(few, few, ["a"] * 4, models)
    found, _ = comparable(often, often, ["a"] * 24, [*models, *["one"] * 20])
    np.testing.assert_allclose(found[:4], once, atol=1e-9)


def test_a_token_that_a_base_lacks_is_left_out() -> None:
    texts, tokens = rows(8, 20, seed=1), rows(8, 10, seed=2)
    bases, models = ["a"] * 4 + ["b"] * 4, [str(number) for number in range(8)]
    tokens[4:, 3] = np.nan
    found, _ = comparable(texts, tokens, bases, models)
    assert np.isfinite(found).all()
    assert not found[4:, 20 + 3].any()


def test_a_base_of_few_models_is_named_and_not_centred() -> None:
    texts, models = rows(3, 5, seed=1), ["one", "one", "two"]
    assert len({*models}) < FEWEST_MODELS
    vectors, uncentred = comparable(texts, np.zeros((3, 2), np.float32), ["a"] * 3, models)
    assert uncentred == {"a"}
    own = texts - texts.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:, :5], own / np.linalg.norm(own, axis=1, keepdims=True), atol=1e-6)


def test_equal_finetunes_of_a_base_say_nothing() -> None:
    texts = np.repeat(rows(1), 4, axis=0)
    vectors, _ = comparable(texts, texts, ["a"] * 4, ["1", "2", "3", "4"])
    assert not vectors.any()


def test_nothing_is_comparable_with_nothing() -> None:
    vectors, uncentred = comparable(NONE, NONE, [], [])
    assert (vectors.shape, uncentred) == ((0, 6), frozenset())


def test_texts_and_tokens_are_distinct() -> None:
    assert len({each.text for each in MEANING_TEXTS.texts}) == len(MEANING_TEXTS.texts)
    assert len({*MEANING_TEXTS.tokens}) == len(MEANING_TEXTS.tokens)
    assert all(MEANING_TEXTS.tokens)


def test_vectors_of_released_texts_stay_comparable() -> None:
    """A changed text needs a new name of the set, and a new digest here."""
    assert (MEANING_TEXTS.name, MEANING_TEXTS.digest[:12]) == ("fields-1", "b7fd93ccdc48")
