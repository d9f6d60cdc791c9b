"""Augmented examples, each with its origin and the examples that it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from deltadex.engine.examples import ChatMessage, Example, to_json


class Origin(StrEnum):
    """Origin of an augmented example.

    `REPHRASED` says the same in other words, `REVERSED` in another direction or order, `INFERRED` follows from several
    examples.
    """

    REPHRASED = "rephrased"
    REVERSED = "reversed"
    INFERRED = "inferred"


class Drop(StrEnum):
    """Reasons for which a candidate is dropped."""

    UNREADABLE = "not an example"
    EMPTY = "empty"
    LONG = "too long"
    HELD_OUT = "same as a held-out example"
    DUPLICATE = "duplicate"
    FAR = "too far from the sources' words"


@dataclass(frozen=True)
class Augmented:
    """An example that was made from others.

    Attributes
    ----------
    sources
        Places of the examples that it was made from, from 0.
    rule
        The rule that made it, or the model that inferred it.
    """

    example: Example
    origin: Origin
    sources: tuple[int, ...]
    rule: str = ""


@dataclass(frozen=True)
class Augmentation:
    """Examples with what was made from them.

    Attributes
    ----------
    given
        The examples themselves, in their order.
    dropped
        Number of candidates by the reason for which they were dropped.
    """

    given: tuple[Example, ...]
    made: tuple[Augmented, ...]
    dropped: Mapping[Drop, int]

    @property
    def examples(self) -> tuple[Example, ...]:
        """The given examples, then the augmented ones: what a training takes."""
        return (*self.given, *(one.example for one in self.made))

    def count(self, origin: Origin) -> int:
        """Return the number of augmented examples of an origin."""
        return sum(one.origin is origin for one in self.made)


def as_lines(augmentation: Augmentation) -> str:
    """Return JSON lines for `engine.examples.read_examples`, each marked with its origin (`given` for a given one)."""
    given = [{**_json(one), "origin": "given", "sources": [place]} for place, one in enumerate(augmentation.given)]
    made = [
        {**_json(one.example), "origin": one.origin, "sources": list(one.sources), "rule": one.rule}
        for one in augmentation.made
    ]
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (*given, *made))


def asked(example: Example) -> str:
    """Return the text that an example answers: its prompt, or the last turn of its conversation."""
    if isinstance(example.prompt, str):
        return example.prompt
    return example.prompt[-1].content if example.prompt else ""


def with_asked(example: Example, text: str, *, completion: str | None = None) -> Example:
    """Return an example whose asked text is another one; earlier turns stay."""
    prompt: str | tuple[ChatMessage, ...] = text
    if not isinstance(example.prompt, str) and example.prompt:
        prompt = (*example.prompt[:-1], replace(example.prompt[-1], content=text))
    return Example(prompt, example.completion if completion is None else completion)


def texts_of(example: Example) -> list[str]:
    """Return the texts of an example in their order: its prompt, or all turns of it, and its completion."""
    prompt = example.prompt
    return [*([prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]), example.completion]


def whole_text(example: Example) -> str:
    """Return all text of an example."""
    return "\n".join(texts_of(example))


def _json(example: Example) -> dict[str, object]:
    [content] = to_json([example])
    return content
