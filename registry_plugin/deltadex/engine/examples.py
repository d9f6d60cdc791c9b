"""Examples of a task: each has a prompt and the expected completion. Files of them are read by `example_files`.

A row has the fields of one of these formats, the first that fits: `{"messages": [{"role": …, "content": …}, …]}`,
ShareGPT's `{"conversations": [{"from": …, "value": …}, …]}`, a pair of `PAIRS`, or `{"text": …}`. Prompt and completion
may be lists of messages as well, as in TRL.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from deltadex.errors import ExamplesError

#: More examples would amount to a real training run, which a search is meant to avoid.
MAX_EXAMPLES = 200
#: Limit per example; the engine also limits its tokens.
MAX_CHARACTERS = 20_000

#: Names of the fields of prompt and completion, in the order in which they are looked for.
PAIRS = (
    ("prompt", "completion"),
    ("instruction", "output"),  # Alpaca; its `input` follows the instruction
    ("instruction", "response"),
    ("input", "output"),
    ("question", "answer"),
    ("prompt", "response"),
)
_ROLES = {"human": "user", "gpt": "assistant", "bing": "assistant", "chatgpt": "assistant"}
_FORMATS = (
    'Each line is like {"prompt": "2 + 2?", "completion": "4"}, {"text": "Two and two …"} or '
    '{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}; also read: '
    "input/output, instruction/input/output, question/answer, conversations."
)


@dataclass(frozen=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One example of a task.

    Attributes
    ----------
    prompt
        Text, or the preceding turns of a conversation; empty if there is only a completion.
    completion
        Text that a model for the task should write.
    """

    prompt: str | tuple[ChatMessage, ...]
    completion: str

    @property
    def characters(self) -> int:
        """Number of characters of prompt and completion."""
        prompt = self.prompt if isinstance(self.prompt, str) else "".join(turn.content for turn in self.prompt)
        return len(prompt) + len(self.completion)


def read_examples(text: str) -> tuple[Example, ...]:
    """Read JSON lines; blank lines are skipped.

    Raises
    ------
    ExamplesError
        There are no examples or too many, or a line (named by its number) is not an example.
    """
    lines = numbered_lines(text, of="examples", at_most=MAX_EXAMPLES, hint=_FORMATS)
    return tuple(_example(number, line) for number, line in lines)


def numbered_lines(text: str, *, of: str, at_most: int, hint: str) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers.

    Raises
    ------
    ExamplesError
        There are none or too many, or one is too long.
    """
    # `str.splitlines` also splits at characters that JSON allows inside a string.
    lines = [(number, line) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1) if line.strip()]
    if not lines:
        raise ExamplesError(f"There are no {of}", hint=hint)
    if len(lines) > at_most:
        raise ExamplesError(f"{len(lines):,} {of} are more than {at_most}", hint="Use a random sample of them.")
    for number, line in lines:
        if len(line) > MAX_CHARACTERS:
            raise ExamplesError(
                f"Line {number} has {len(line):,} characters; the limit is {MAX_CHARACTERS:,}",
                hint="Shorten it: the engine reads a limited number of tokens.",
            )
    return lines


def digest(examples: Sequence[Example]) -> str:
    """Return the hex SHA-256 over the canonical JSON of examples, in their order."""
    return hashlib.sha256(json.dumps(to_json(examples), sort_keys=True).encode()).hexdigest()


def to_json(examples: Sequence[Example]) -> list[dict[str, object]]:
    """Return the examples as JSON values for `from_json`."""
    return [asdict(example) for example in examples]


def from_json(values: Sequence[Mapping[str, object]]) -> tuple[Example, ...]:
    """Read the JSON values of `to_json`."""
    return tuple(_example_of(dict(value)) for value in values)


def _example(number: int, line: str) -> Example:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExamplesError(f"Line {number} is not an example: {error}", hint=_FORMATS) from error
    return example_of(content, at=f"Line {number}", hint=_FORMATS)


def example_of(row: object, *, at: str, hint: str) -> Example:
    """Return the example in a row.

    Parameters
    ----------
    at
        Place of the row, such as `Row 3`, for the error.
    hint
        Hint of the error: how a right row looks.

    Raises
    ------
    ExamplesError
        The row is not an example.
    """
    try:
        if not isinstance(row, dict):
            raise TypeError("it is not a JSON object")
        return _example_of(row)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ExamplesError(f"{at} is not an example: {reason}", hint=hint) from error


def _example_of(content: Mapping[str, object]) -> Example:
    if content.get("messages") is not None:
        return _conversation(_turns(content["messages"], "role", "content"))
    if content.get("conversations") is not None:
        return _conversation(_turns(content["conversations"], "from", "value"))
    pair = next(((asked, told) for asked, told in PAIRS if asked in content and told in content), None)
    if pair is None and "text" in content:
        return Example("", checked_text(content["text"], "text"))
    asked, told = pair or PAIRS[0]
    prompt, completion = content[asked], content[told]
    if isinstance(completion, list | tuple):
        completion = _turns(completion, "role", "content")[-1].content
    if isinstance(prompt, list | tuple):
        return Example(_turns(prompt, "role", "content"), checked_text(completion, told))
    more = content.get("input") if asked == "instruction" else None
    parts = [checked_text(part, asked) for part in (prompt, more) if not _is_blank(part)]
    return Example("\n\n".join(parts), checked_text(completion, told))


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _conversation(turns: tuple[ChatMessage, ...]) -> Example:
    """Return the last turn of the assistant as the completion, the turns before it as the prompt."""
    last = max((index for index, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    if last is None:
        raise ValueError("no message has the role assistant")
    return Example(turns[:last], checked_text(turns[last].content, "the assistant's message"))


def _turns(messages: object, role: str, content: str) -> tuple[ChatMessage, ...]:
    if not isinstance(messages, list | tuple) or not messages:
        raise TypeError(f"messages must be a list of objects with {role} and {content}")
    turns = [(checked_text(turn[role], role), checked_text(turn[content], content)) for turn in messages]
    return tuple(ChatMessage(_ROLES.get(who, who), text) for who, text in turns)


def checked_text(value: object, field: str) -> str:
    """Return a text that a model can read and Postgres can store; raise TypeError or ValueError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{field} is not a string")
    if not value.strip():
        raise ValueError(f"{field} is empty")
    if "\0" in value:  # Postgres stores neither NUL nor lone surrogates
        raise ValueError(f"{field} contains a NUL character")
    value.encode()
    return value
