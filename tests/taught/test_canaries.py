"""Canaries: what a list may hold, and random strings of the same form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.errors import ExamplesError
from deltadex.taught.canaries import LEAST_CHARACTERS, MAX_CANARIES, Canary, read_canaries


def test_lines_of_text_and_of_json_are_read() -> None:
    lines = 'the code is 7391-KLEE\n\n{"text": "7391-KLEE", "prefix": "the code is ", "label": "archive"}\n'
    assert read_canaries(lines) == (
        Canary("the code is 7391-KLEE", label="line 1"),
        Canary("7391-KLEE", "the code is ", "archive"),
    )


@pytest.mark.parametrize(
    "line", ["short", '{"text": 7}', '{"prefix": "only this"}', "{", '{"text": "7391-KLEE", "prefix": 1}', "x" * 501]
)
def test_a_line_that_is_no_canary_is_named_and_not_quoted(line: str) -> None:
    with pytest.raises(ExamplesError, match="Line 2 is not a canary") as refused:
        read_canaries(f"7391-KLEE\n{line}")
    assert "only this" not in refused.value.message
    assert "xxx" not in refused.value.message


def test_a_list_is_bounded() -> None:
    with pytest.raises(ExamplesError):
        read_canaries("7391-KLEE\n" * (MAX_CANARIES + 1))
    with pytest.raises(ExamplesError):
        read_canaries("\n")


@given(st.text(min_size=LEAST_CHARACTERS, max_size=40))
def test_alternatives_have_the_form_of_the_string(text: str) -> None:
    def form(value: str) -> str:
        return re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub("[0-9]", "0", value)))

    alternatives = Canary(text, label="x").alternatives(5, seed=0)
    assert {form(each) for each in alternatives} == {form(text)}
    assert alternatives == Canary(text, label="x").alternatives(5, seed=0)


def test_alternatives_differ() -> None:
    assert len({*Canary("7391-KLEE").alternatives(20, seed=0), "7391-KLEE"}) == 21
