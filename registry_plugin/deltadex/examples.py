"""A handful of examples of a task, as JSON lines: what a model for it reads, and what it should write.

The shapes are those that TRL's trainers take: `{"prompt": …, "completion": …}`, `{"text": …}` and
`{"messages": [{"role": …, "content": …}, …]}`, where prompt and completion may be lists of messages as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from deltadex.errors import ExamplesError

#: More would be a training, which is what a search is there to save.
MOST_EXAMPLES = 200
#: Of one example; what a base reads of it is bounded further, in tokens.
MOST_CHARACTERS = 20_000

_SHAPES = 'Each line is {"prompt": …, "completion": …}, {"text": …} or {"messages": [{"role": …, "content": …}, …]}.'


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One example of a task.

    Attributes
    ----------
    prompt
        A text, or the turns of a conversation so far; empty where there is only a completion.
    completion
        What a model for the task writes.
    """

    prompt: str | tuple[Message, ...]
    completion: str


def read_examples(text: str) -> tuple[Example, ...]:
    """Read JSON lines; blank ones are passed over.

    Raises
    ------
    ExamplesError
        There is no example or there are too many, or a line is none; with its number.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise ExamplesError("There are no examples", hint=_SHAPES)
    if len(lines) > MOST_EXAMPLES:
        raise ExamplesError(
            f"{len(lines):,} examples are more than {MOST_EXAMPLES}", hint="Take some of them at random."
        )
    return tuple(_example(number, line) for number, line in lines)


def digest(examples: Sequence[Example]) -> str:
    """Return the hex SHA-256 over the canonical JSON of examples, in their order."""
    return hashlib.sha256(json.dumps(to_json(examples), sort_keys=True).encode()).hexdigest()


def to_json(examples: Sequence[Example]) -> list[dict[str, object]]:
    """Return what `from_json` reads, as JSON values."""
    return [asdict(example) for example in examples]


def from_json(listed: Sequence[Mapping[str, object]]) -> tuple[Example, ...]:
    """Read what `to_json` returned."""
    return tuple(_of(dict(one)) for one in listed)


def _example(number: int, line: str) -> Example:
    if len(line) > MOST_CHARACTERS:
        raise ExamplesError(
            f"Line {number} has {len(line):,} characters, and an example has {MOST_CHARACTERS:,} at most",
            hint="Cut it: what a model reads and writes first says what the task is.",
        )
    try:
        return _of(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ExamplesError(f"Line {number} is no example: {reason}", hint=_SHAPES) from error


def _of(content: Mapping[str, object]) -> Example:
    if not isinstance(content, dict):
        raise TypeError("it is no JSON object")
    if "messages" in content:
        return _conversation(_turns(content["messages"]))
    if "text" in content:
        return Example("", _text(content["text"], "text"))
    prompt, completion = content["prompt"], content["completion"]
    if not isinstance(completion, str):
        completion = _turns(completion)[-1].content
    prompt = prompt if isinstance(prompt, str) else _turns(prompt)
    return Example(prompt, _text(completion, "completion"))


def _conversation(turns: tuple[Message, ...]) -> Example:
    """Return the last answer with what was said before it."""
    last = max((place for place, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    if last is None:
        raise ValueError("no message is by the assistant")
    return Example(turns[:last], _text(turns[last].content, "the assistant's message"))


def _turns(listed: object) -> tuple[Message, ...]:
    if not isinstance(listed, list | tuple) or not listed:
        raise TypeError("messages are a list of roles and contents")
    return tuple(Message(_text(one["role"], "role"), _text(one["content"], "content")) for one in listed)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} is no text")
    if not value.strip():
        raise ValueError(f"{what} is empty")
    if "\0" in value:  # which Postgres can't hold, nor half of a surrogate pair
        raise ValueError(f"{what} has a NUL character")
    value.encode()
    return value
