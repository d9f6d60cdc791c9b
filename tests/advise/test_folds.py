"""Folds: an example, its copies and what shares its prompt stay together."""

from __future__ import annotations

import pytest

from deltadex.advise.folds import FoldedTask
from deltadex.engine.examples import ChatMessage, Example
from deltadex.errors import ExamplesError


def examples(count: int) -> list[Example]:
    return [Example(f"question {number}", f"answer {number}") for number in range(count)]


def test_every_example_is_in_one_fold_and_the_folds_are_of_equal_size() -> None:
    task = FoldedTask.of(examples(41), folds=4)
    assert sorted(task.folds.count(fold) for fold in range(4)) == [10, 10, 10, 11]
    for number, fold in enumerate(task.folds):
        assert number not in task.outside(fold)
    assert task == FoldedTask.of(examples(41), folds=4), "drawn with a fixed seed"


def test_copies_are_left_out_and_counted() -> None:
    copies = [Example("Question  3", "ANSWER 3"), Example("question 3", "answer 3 ")]
    task = FoldedTask.of([*examples(10), *copies], folds=2)
    assert task.examples == tuple(examples(10))
    assert task.duplicates == 2


def test_examples_with_one_prompt_share_a_fold() -> None:
    others = [Example("question 3", f"another answer {number}") for number in range(3)]
    task = FoldedTask.of([*examples(10), *others], folds=2)
    assert len({fold for one, fold in zip(task.examples, task.folds, strict=True) if one.prompt == "question 3"}) == 1


def test_a_conversation_is_a_prompt_as_well() -> None:
    turns = (ChatMessage("user", "question 1"),)
    task = FoldedTask.of([*examples(3), Example(turns, "answer 1")], folds=2)
    assert task.duplicates == 1


def test_texts_without_prompts_are_told_apart_by_their_completions() -> None:
    task = FoldedTask.of([Example("", f"text {number}") for number in range(8)], folds=2)
    assert sorted(task.folds) == [0] * 4 + [1] * 4


def test_too_few_different_prompts_are_a_stated_error() -> None:
    with pytest.raises(ExamplesError, match="1 different prompts are fewer than 2 folds"):
        FoldedTask.of([Example("same", "one"), Example("same", "two")], folds=2)
