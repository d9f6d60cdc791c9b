"""Reading of prompts: formats, bounds, and lines that are none."""

from __future__ import annotations

import pytest

from deltadex.errors import ExamplesError
from deltadex.replay.prompts import MAX_PROMPTS, as_lines, digest, read_prompts


def test_lines_are_json_or_plain_text() -> None:
    assert read_prompts('{"prompt": "One\\ntwo", "answer": 3}\n\nPlain text [1]\n') == ("One\ntwo", "Plain text [1]")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "There are no prompts"),
        ("x\n" * (MAX_PROMPTS + 1), "501 prompts are more than 500"),
        ('fine\n{"text": "a"}', "Line 2 is not a prompt: it has no prompt"),
        ('{"prompt": ["a"]}', "Line 1 is not a prompt: prompt is not a string"),
        ('{"prompt": "a\\u0000"}', "contains a NUL"),
        ("a" * 20_001, "Line 1 has 20,001 characters"),
        ('{"prompt": ' + "[" * 9000, "Line 1 is not a prompt"),
    ],
)
def test_what_is_no_prompt_is_a_stated_error(text: str, says: str) -> None:
    with pytest.raises(ExamplesError, match=says):
        read_prompts(text)


def test_cells_of_a_table_become_prompts_once_each() -> None:
    assert read_prompts(as_lines(["a\nb", '{"x"}', "a\nb"])) == ("a\nb", '{"x"}')
    assert len(read_prompts(as_lines(range(0)) + as_lines([f"{number}" for number in range(900)]))) == MAX_PROMPTS


def test_the_digest_depends_on_texts_and_order() -> None:
    assert digest(["a", "b"]) == digest(("a", "b")) != digest(["b", "a"])
