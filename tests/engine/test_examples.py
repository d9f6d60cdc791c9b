"""Parsing of examples in all formats, and errors for invalid ones."""

from __future__ import annotations

import json

import pytest

from deltadex.engine.examples import (
    MAX_CHARACTERS,
    MAX_EXAMPLES,
    ChatMessage,
    Example,
    digest,
    from_json,
    read_examples,
    to_json,
)
from deltadex.errors import ExamplesError

QUESTION, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
ASKED = (ChatMessage("user", "2 + 2?"),)


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
def test_every_format_is_read(line: dict[str, object], example: Example) -> None:
    assert read_examples(json.dumps(line)) == (example,)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"prompt": "2 + 2?"}', "lacks 'completion'"),
        ('{"text": " "}', "text is empty"),
        ('{"text": 4}', "text is not a string"),
        ('{"text": "\\u0000"}', "NUL"),
        ('{"text": "\\ud800"}', "surrogates"),
        ('{"messages": []}', "list of objects"),
        ('{"messages": [{"role": "user"}]}', "lacks 'content'"),
        ('{"messages": [{"role": "user", "content": "2 + 2?"}]}', "no message has the role assistant"),
        ('{"messages": ["2 + 2?"]}', "indices"),
    ],
)
def test_an_invalid_line_is_reported_with_its_number(line: str, reason: str) -> None:
    with pytest.raises(ExamplesError, match=f"Line 3 .*{reason}") as error:
        read_examples(f'{{"text": "good"}}\n\n{line}\n')
    assert '"completion"' in error.value.hint


def test_none_too_many_and_too_long_are_refused() -> None:
    with pytest.raises(ExamplesError, match="no examples"):
        read_examples("\n \n")
    line = '{"text": "good"}\n'
    assert len(read_examples(line * MAX_EXAMPLES)) == MAX_EXAMPLES
    with pytest.raises(ExamplesError, match="201 examples are more than 200"):
        read_examples(line * (MAX_EXAMPLES + 1))
    with pytest.raises(ExamplesError, match="Line 2 has 20,0"):
        read_examples(line + json.dumps({"text": "a" * MAX_CHARACTERS}))


def test_examples_survive_json_and_their_digest_tells_them_apart() -> None:
    examples = read_examples('{"prompt": "a", "completion": "b"}\n' + json.dumps({"messages": [QUESTION, ANSWER]}))
    assert from_json(json.loads(json.dumps(to_json(examples)))) == examples
    assert digest(examples) == digest(list(examples))
    assert digest(examples) != digest(examples[::-1])
