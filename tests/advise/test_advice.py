"""Advice from scores: what is chosen on one part is scored on the other, and the words say what was found."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.advise import words
from deltadex.advise.advice import Advice, AskedTask, advice_of
from deltadex.advise.costs import Tariff
from deltadex.advise.folds import FoldedTask
from deltadex.advise.measured import Candidate, Readings, mixture, options_of
from deltadex.advise.rule import Choice
from deltadex.advise.style import style_gain, style_tokens
from deltadex.engine.examples import Example
from deltadex.engine.messages import as_json, from_json
from deltadex.engine.text_requests import Scored

TOKENS = 10
CANDIDATES = tuple(Candidate(number, f"model-{number}/1") for number in range(3))


def task(count: int = 40) -> FoldedTask:
    return FoldedTask.of([Example(f"question {number}", f"answer {number}") for number in range(count)], folds=2)


def scored(
    nats: list[float], *, prompt_tokens: int = 20, texts: tuple[str, ...] = ("x",) * TOKENS, greedy: bool = False
) -> list[Scored]:
    """Scores with these nats per token, the same for all tokens of an example."""
    return [
        Scored(TOKENS * one, TOKENS, greedy, prompt_tokens, False, 40, (one,) * TOKENS, texts) for one in nats
    ]  # fmt: skip


def near(mean: float, *, seed: int, count: int = 40, spread: float = 0.1) -> list[float]:
    return np.random.default_rng(seed).normal(mean, spread, count).clip(0.01).tolist()


def advised(readings: Readings, *, count: int = 40, calls: int | None = None, margin: float = 0.05) -> Advice:
    asked = AskedTask("acme/base", "bm25", 4, margin)
    chosen = CANDIDATES[: len(readings.candidates)]
    return advice_of(task(count), asked, chosen, readings, tariff=Tariff(calls_per_month=calls))


BASE = scored(near(3, seed=1))
PROMPTED = scored(near(2.5, seed=2), prompt_tokens=120)


def test_a_finetune_that_knows_the_task_is_reused_by_its_name() -> None:
    found = advised(Readings(BASE, PROMPTED, [scored(near(mean, seed=5)) for mean in (2.8, 1.5, 2.9)]))
    assert found.recommended is Choice.REUSE
    assert words.recommendation(found) == "Reuse model-1/1: it exists, and costs no tokens per call."
    gain = found.of(Choice.REUSE).gain  # type: ignore[union-attr]
    assert gain.low < 1.5 < gain.high
    assert any("2505.00661" in one for one in words.warnings(found))


def test_examples_in_the_prompt_are_advised_where_no_finetune_does_as_well() -> None:
    found = advised(Readings(BASE, PROMPTED, [scored(near(2.9, seed=5))]))
    assert found.recommended is Choice.PROMPT
    assert "4 examples that bm25 selects for each input, which add 100 tokens to each call" in words.recommendation(
        found
    )
    assert any("`--train`" in one for one in words.reasons(found))


def test_nothing_better_than_the_base_is_said() -> None:
    found = advised(Readings(BASE, scored(near(3.2, seed=2)), [scored(near(3.3, seed=5))]))
    assert found.recommended is Choice.BASE
    assert "nothing measured is surely better" in words.recommendation(found)


def test_training_is_advised_where_all_that_exists_is_worse_and_the_volume_decides_between_equals() -> None:
    readings = Readings(BASE, PROMPTED, [scored(near(2.9, seed=5))], scored(near(1.5, seed=6)), training_tokens=1_000)
    found = advised(readings)
    assert found.recommended is Choice.TRAIN
    assert any("in-context examples cost more after 30 calls" in one for one in words.reasons(found))
    equal = Readings(BASE, PROMPTED, (), scored([one.nats / TOKENS for one in PROMPTED]), training_tokens=1_000)
    assert [advised(equal, calls=calls).recommended for calls in (None, 1, 1_000)] == ["prompt", "prompt", "train"]


def test_two_finetunes_that_each_know_a_part_are_merged() -> None:
    halves = [[1.0 if number % 2 == part else 4.0 for number in range(40)] for part in (0, 1)]
    found = advised(Readings(BASE, PROMPTED, [scored(each) for each in halves]))
    assert found.recommended is Choice.MERGE
    assert "Merge model-0/1 and model-1/1 with `deltadex merge`" in words.recommendation(found)
    assert found.wins == (20, 20)


def test_few_examples_are_reported_without_a_recommendation() -> None:
    base, other = scored(near(3, seed=1, count=20)), scored(near(1, seed=2, count=20))
    found = advised(Readings(base, other, [other]), count=20)
    assert found.recommended is None
    assert words.recommendation(found).startswith("No recommendation: 20 distinct examples are fewer than 30")
    assert len(found.options) == 3


def test_the_best_of_many_equal_finetunes_is_not_scored_by_what_it_was_chosen_by() -> None:
    """Finetunes that differ by chance alone: the best one seems better than it is, the cross-fitted one does not."""
    chosen, optimistic = [], []
    for seed in range(40):
        readings = Readings(BASE, PROMPTED, [scored(near(3, seed=10 * seed + each, spread=1)) for each in range(3)])
        [reuse] = [one for one in options_of(task(), readings) if one.choice is Choice.REUSE]
        chosen.append(reuse.nats.mean() / TOKENS)
        optimistic.append(min(np.mean([one.nats for one in each]) for each in readings.candidates) / TOKENS)
    assert np.mean(optimistic) < 2.92
    assert 2.95 < np.mean(chosen) < 3.05


def test_a_mixture_lies_between_its_parts_and_loses_at_most_ln_2() -> None:
    one, other = scored([1.0]), scored([3.0])
    [mixed] = mixture(one, other)
    assert one[0].nats < mixed <= one[0].nats + TOKENS * np.log(2)
    [across] = mixture(one, scored([3.0], texts=("y",) * TOKENS))
    assert one[0].nats < across <= one[0].nats + np.log(2), "models that read other tokens are mixed as wholes"


def test_short_answers_have_an_exact_match_and_long_ones_do_not() -> None:
    found = advised(Readings(scored(near(1, seed=1), greedy=True), PROMPTED))
    assert found.base.exact is not None
    assert (found.base.exact.value, found.of(Choice.PROMPT).exact.value) == (1, 0)  # type: ignore[union-attr]
    long = [Scored(one.nats, 100, True, 20, False, 400, (0.1,) * 100, ("x",) * 100) for one in BASE]
    assert advised(Readings(long, long)).base.exact is None


def test_style_is_what_most_answers_could_hold() -> None:
    said = [["Sure", "!", " the", f" fact{number}"] for number in range(9)]
    assert style_tokens(said) == [[True, True, True, False]] * 9


@pytest.mark.parametrize(("moved", "is_style_only"), [((True, False), True), ((True, True), False)])
def test_a_finetune_that_moves_style_alone_is_told(moved: tuple[bool, bool], is_style_only: bool) -> None:
    rows = range(40)
    texts = [("Sure", "!", f" fact{number}", f" more{number}") for number in rows]

    def with_nats(style: float, content: float) -> list[Scored]:
        nats = (style, style, content, content)
        return [Scored(sum(nats), 4, False, 9, False, 20, nats, each) for each in texts]

    base, tuned = with_nats(2, 3), with_nats(1 if moved[0] else 2, 2 if moved[1] else 3)
    gain = style_gain(base, tuned)
    assert gain is not None
    assert gain.style.value == 1
    assert gain.is_style_only is is_style_only
    found = advised(Readings(base, base, [tuned]))
    assert found.recommended is Choice.REUSE
    assert any(("style, not content" in one) is is_style_only for one in words.warnings(found) if "style tokens" in one)


def test_an_advice_survives_its_storage() -> None:
    found = advised(Readings(BASE, PROMPTED, [scored(near(2, seed=3)), scored(near(2, seed=4))]), calls=10)
    assert from_json(Advice, as_json(Advice, found)) == found
