"""The rule over its whole table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.advise.rule import ENOUGH_EXAMPLES, Choice, Weighed, choose
from deltadex.replay.agreement import Estimate

MARGIN = 0.05
#: Interval of a loss against the best: none, within the margin, perhaps more, surely more.
NONE, WITHIN, PERHAPS, MORE = (0, 0), (0.0, 0.04), (0.0, 0.2), (0.1, 0.3)
#: Interval of a gain over the base.
SURE, UNSURE, WORSE = (0.1, 0.5), (-0.1, 0.5), (-0.5, -0.1)


def option(choice: str, gain: tuple[float, float], worse: tuple[float, float], cost: float | None = None) -> Weighed:
    def estimate(interval: tuple[float, float]) -> Estimate:
        return Estimate(sum(interval) / 2, *interval)

    return Weighed(Choice(choice), estimate(gain), estimate(worse), cost)


BEST = option("base", (0, 0), NONE)
LOSES = option("base", (0, 0), MORE)
LOSES_AT_1 = option("base", (0, 0), MORE, 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([BEST], "base"),
        ([BEST, option("reuse", WORSE, MORE), option("prompt", WORSE, MORE)], "base"),
        ([BEST, option("reuse", UNSURE, NONE)], "base"),  # what may be chance is not recommended
        ([option("base", (0, 0), WITHIN), option("prompt", SURE, NONE)], "base"),  # too little gain to pay for
        ([option("base", (0, 0), PERHAPS), option("prompt", SURE, NONE)], "prompt"),
        ([LOSES, option("reuse", SURE, NONE), option("prompt", SURE, MORE)], "reuse"),
        ([LOSES, option("reuse", SURE, WITHIN), option("prompt", SURE, NONE)], "reuse"),
        ([LOSES, option("reuse", SURE, PERHAPS), option("prompt", SURE, NONE)], "prompt"),
        ([LOSES, option("reuse", UNSURE, WITHIN), option("prompt", SURE, NONE)], "prompt"),
        ([LOSES, option("reuse", SURE, MORE), option("prompt", SURE, NONE)], "prompt"),
        ([LOSES, option("prompt", SURE, WITHIN), option("train", SURE, NONE)], "prompt"),
        ([LOSES, option("reuse", SURE, WITHIN), option("merge", SURE, NONE)], "reuse"),
        ([LOSES, option("reuse", SURE, MORE), option("merge", SURE, NONE)], "merge"),
        (
            [LOSES, option("reuse", SURE, MORE), option("merge", SURE, WITHIN), option("train", SURE, NONE)],
            "merge",
        ),
        ([LOSES, option("reuse", SURE, MORE), option("prompt", SURE, MORE), option("train", SURE, NONE)], "train"),
        ([LOSES, option("prompt", SURE, PERHAPS), option("train", SURE, NONE)], "train"),
        # With costs, the cheapest of those that are as good.
        ([LOSES_AT_1, option("prompt", SURE, WITHIN, 9), option("train", SURE, NONE, 5)], "train"),
        (
            [LOSES_AT_1, option("prompt", SURE, WITHIN, 4), option("train", SURE, NONE, 5)],
            "prompt",
        ),
        ([LOSES_AT_1, option("reuse", SURE, WITHIN, 3), option("train", SURE, NONE, 3)], "reuse"),
        ([LOSES_AT_1, option("prompt", SURE, MORE, 2), option("train", SURE, NONE, 9)], "train"),
        # A cost that is not known for all decides nothing.
        ([LOSES_AT_1, option("prompt", SURE, WITHIN, 9), option("train", SURE, NONE)], "prompt"),
    ],
)
def test_the_simplest_option_that_is_not_worse_is_recommended(options: list[Weighed], expected: str) -> None:
    assert choose(options, examples=ENOUGH_EXAMPLES, margin=MARGIN) == expected
    assert choose(options[::-1], examples=200, margin=MARGIN) == expected, "the order says nothing"


@pytest.mark.parametrize("examples", [2, 10, ENOUGH_EXAMPLES - 1])
def test_few_examples_get_no_recommendation(examples: int) -> None:
    assert choose([LOSES, option("reuse", SURE, NONE)], examples=examples, margin=MARGIN) is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_wider_margin_never_recommends_something_less_simple(one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    options = [LOSES, option("reuse", SURE, PERHAPS), option("prompt", SURE, WITHIN), option("train", SURE, NONE)]
    order = list(Choice)
    chosen = [choose(options, examples=40, margin=margin) for margin in (narrow, wide)]
    assert all(chosen)
    assert order.index(chosen[1]) <= order.index(chosen[0])  # type: ignore[arg-type]
