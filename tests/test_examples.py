"""Examples of a task, in every shape that people have them in, and what is said where they are none."""

from __future__ import annotations

import json

import pytest

from deltadex.errors import ExamplesError
from deltadex.examples import (
    MOST_CHARACTERS,
    MOST_EXAMPLES,
    Example,
    Message,
    digest,
    from_json,
    read_examples,
    to_json,
)

QUESTION, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
ASKED = (Message("user", "2 + 2?"),)


@pytest.mark.parametrize(
    ("line", "example"),
    [
        ({"prompt": "2 + 2?", "completion": "4"}, Example("2 + 2?", "4")),
        ({"prompt": "", "completion": "4"}, Example("", "4")),
        ({"text": "two and two"}, Example("", "two and two")),
        ({"messages": [QUESTION, ANSWER]}, Example(ASKED, "4")),
        ({"messages": [QUESTION, ANSWER, {"role": "user", "content": "Thanks."}]}, Example(ASKED, "4")),
        ({"prompt": [QUESTION], "completion": [ANSWER]}, Example(ASKED, "4")),
        ({"prompt": "2 + 2?", "completion": "4", "id": 7}, Example("2 + 2?", "4")),
    ],
)
def test_every_shape_is_read(line: dict[str, object], example: Example) -> None:
    assert read_examples(json.dumps(line)) == (example,)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        ('{"prompt": "2 + 2?"}', "lacks 'completion'"),
        ('{"text": " "}', "text is empty"),
        ('{"text": 4}', "text is no text"),
        ('{"text": "\\u0000"}', "NUL"),
        ('{"text": "\\ud800"}', "surrogates"),
        ('{"messages": []}', "list of roles"),
        ('{"messages": [{"role": "user"}]}', "lacks 'content'"),
        ('{"messages": [{"role": "user", "content": "2 + 2?"}]}', "no message is by the assistant"),
        ('{"messages": ["2 + 2?"]}', "indices"),
    ],
)
def test_a_line_that_is_no_example_is_named_with_its_number(line: str, reason: str) -> None:
    with pytest.raises(ExamplesError, match=f"Line 3 .*{reason}") as error:
        read_examples(f'{{"text": "good"}}\n\n{line}\n')
    assert '"completion"' in error.value.hint


def test_none_too_many_and_too_long_are_said() -> None:
    with pytest.raises(ExamplesError, match="no examples"):
        read_examples("\n \n")
    line = '{"text": "good"}\n'
    assert len(read_examples(line * MOST_EXAMPLES)) == MOST_EXAMPLES
    with pytest.raises(ExamplesError, match="201 examples are more than 200"):
        read_examples(line * (MOST_EXAMPLES + 1))
    with pytest.raises(ExamplesError, match="Line 2 has 20,0"):
        read_examples(line + json.dumps({"text": "a" * MOST_CHARACTERS}))


def test_examples_survive_json_and_their_digest_tells_them_apart() -> None:
    examples = read_examples('{"prompt": "a", "completion": "b"}\n' + json.dumps({"messages": [QUESTION, ANSWER]}))
    assert from_json(json.loads(json.dumps(to_json(examples)))) == examples
    assert digest(examples) == digest(list(examples))
    assert digest(examples) != digest(examples[::-1])
