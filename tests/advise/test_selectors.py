"""Selectors: the nearest examples of other folds, never the one that is answered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deltadex.advise.folds import FoldedTask
from deltadex.advise.selectors import SELECTORS, contexts
from deltadex.engine.examples import Example

TOPICS = ("the tax law of France", "a select query over tables", "verses of a holy king")
EXAMPLES = tuple(Example(f"{topic}, number {number}", f"{topic} {number}") for number in range(8) for topic in TOPICS)


def states_of(task: FoldedTask) -> np.ndarray:
    """States that differ by topic, as a base's do."""
    place = {topic: number for number, topic in enumerate(TOPICS)}
    rows = [place[str(one.prompt).partition(",")[0]] for one in task.examples]
    return np.eye(3, dtype=np.float32)[rows] + 0.01 * np.arange(len(rows), dtype=np.float32)[:, None]


@pytest.mark.parametrize("name", SELECTORS)
def test_no_selector_returns_the_scored_example_or_one_of_its_fold(name: str) -> None:
    task = FoldedTask.of([*EXAMPLES, *EXAMPLES[:5]], folds=3)
    chosen = contexts(task, name, shots=4, states=states_of(task))
    for number, shown in enumerate(chosen):
        assert len(shown) == 4
        outside = {task.examples[other] for other in task.outside(task.folds[number])}
        assert task.examples[number] not in shown
        assert set(shown) <= outside


PROMPTS = st.lists(st.text(alphabet="ab ", max_size=6), min_size=4, max_size=12)


@given(PROMPTS, st.sampled_from(["jaccard", "bm25", "fixed"]))
def test_an_example_never_meets_itself_or_its_copy(prompts: list[str], name: str) -> None:
    given_examples = [Example(prompt, f"answer {number % 2}") for number, prompt in enumerate(prompts)]
    assume(len({" ".join(prompt.split()) for prompt in prompts} - {""}) >= 2)
    task = FoldedTask.of(given_examples, folds=2)
    for one, shown in zip(task.examples, contexts(task, name, shots=3), strict=True):
        key = " ".join(str(one.prompt).split())
        assert not key or all(" ".join(str(other.prompt).split()) != key for other in shown)
        assert one not in shown


@pytest.mark.parametrize("name", ["jaccard", "bm25", "embedding"])
def test_examples_like_the_input_are_chosen_the_nearest_last(name: str) -> None:
    task = FoldedTask.of(EXAMPLES, folds=2)
    chosen = contexts(task, name, shots=2, states=states_of(task))
    for one, shown in zip(task.examples, chosen, strict=True):
        assert str(shown[-1].prompt).partition(",")[0] == str(one.prompt).partition(",")[0]


def test_a_fixed_set_is_the_same_for_each_input_of_a_fold() -> None:
    task = FoldedTask.of(EXAMPLES, folds=2)
    chosen = contexts(task, "fixed", shots=3)
    for fold in range(2):
        assert len({shown for shown, own in zip(chosen, task.folds, strict=True) if own == fold}) == 1


def test_inputs_without_words_are_chosen_from_as_well() -> None:
    task = FoldedTask.of([Example("", f"text {number}") for number in range(6)], folds=2)
    for name in ("jaccard", "bm25", "fixed"):
        assert all(len(shown) == 2 for shown in contexts(task, name, shots=2))
