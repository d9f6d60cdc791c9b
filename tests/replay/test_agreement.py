"""Agreement of replies: shares, gaps, their intervals, and what is said of few prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.engine.text_requests import Replies
from deltadex.replay.agreement import Agreement, bootstrap, wilson


def replies(one: list[tuple[int, ...]], other: list[tuple[int, ...]], gap: float = 0.0) -> Replies:
    """Replies of models that each give -1 nat to their own, and less by the gap to the other's."""
    own, others = (-1.0,) * len(one), (-1.0 - gap,) * len(one)
    return Replies((tuple(one), tuple(other)), ((own, others), (others, own)), cut=0)


def test_equal_models_agree_fully_and_have_no_gap() -> None:
    found = Agreement.of(replies([(1, 2)] * 120, [(1, 2)] * 120))
    assert (found.equal.value, found.common_start.value, found.gap.value) == (1, 1, 0)
    assert (found.equal.low, found.equal.high) == (pytest.approx(0.969, abs=1e-3), pytest.approx(1))
    assert found.verdict.startswith("Both give the same answer to 120 of 120 prompts (100%; 95% interval 97% to 100%).")
    assert "show little" not in found.verdict


def test_tokens_count_up_to_the_first_difference_of_the_longer_answer() -> None:
    one, other = [(1, 2, 3, 4), (1,), (5, 6)], [(1, 2, 9, 4), (1, 2, 3, 4), (6, 5)]
    found = Agreement.of(replies(one, other, gap=0.5))
    assert found.common_start.value == pytest.approx((2 / 4 + 1 / 4 + 0) / 3)
    assert (found.equal.value, found.gap.value) == (0, 0.5)


def test_few_prompts_are_said_to_show_little_and_how_little() -> None:
    found = Agreement.of(replies([(1,)] * 12, [(1,)] * 12))
    assert not found.is_enough
    assert "12 prompts show little: the interval is 24% wide. Use at least 100." in found.verdict


def test_a_long_prompt_is_told() -> None:
    cut = Replies(((((1,)),),) * 2, (((-1.0,),) * 2,) * 2, cut=1)
    assert "only their end was read: 1." in Agreement.of(cut).verdict


def test_rounding_below_zero_is_shown_as_zero() -> None:
    assert (
        "the answer 0.00 nats per token less likely (0.00 to 0.00)"
        in Agreement.of(replies([(1,)] * 3, [(1,)] * 3, gap=-1e-4)).verdict
    )


@given(st.integers(1, 500).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_a_share_lies_in_its_interval_and_more_trials_narrow_it(counts: tuple[int, int]) -> None:
    successes, trials = counts
    one, more = wilson(successes, trials), wilson(successes * 10, trials * 10)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert more.high - more.low < one.high - one.low


def test_the_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    of_shares = [wilson(int(successes), 100) for successes in random.binomial(100, 0.9, 400)]
    of_means = [bootstrap(random.exponential(size=100)) for _ in range(400)]
    assert np.mean([each.low <= 0.9 <= each.high for each in of_shares]) > 0.91
    assert np.mean([each.low <= 1.0 <= each.high for each in of_means]) > 0.91


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert bootstrap(values) == bootstrap(values)
