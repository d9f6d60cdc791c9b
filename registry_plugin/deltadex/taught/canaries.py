"""Canaries: strings that the owner lists, and random strings of the same form to compare them with."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

from deltadex.engine.examples import checked_text, numbered_lines
from deltadex.errors import ExamplesError

MAX_CANARIES = 50
#: A shorter string is met by chance.
LEAST_CHARACTERS = 6
_LONGEST = 500
_FORMATS = 'Each line is {"text": …, "prefix": …, "label": …} (the last two are optional), or the string itself.'
#: A character is replaced by one of its own class.
_CLASSES = (string.digits, string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class Canary:
    """One listed string.

    Attributes
    ----------
    text
        The string itself.
    prefix
        Text that stands before it in the training data, if that is known.
    label
        Name for pages and commands, which show no more of the string than its ends.
    """

    text: str
    prefix: str = ""
    label: str = ""

    def alternatives(self, count: int, *, seed: int) -> tuple[str, ...]:
        """Return random strings of the same form: digits for digits, letters for letters of the same case."""
        draw = random.Random(f"{seed} {self.label}")  # noqa: S311 - no secret
        return tuple("".join(_drawn(each, draw) for each in self.text) for _ in range(count))


def read_canaries(text: str) -> tuple[Canary, ...]:
    """Read lines of JSON or of plain text; blank lines are skipped.

    Raises
    ------
    ExamplesError
        There are none or too many, or a line (named by its number) is none. The message doesn't quote the line.
    """
    lines = numbered_lines(text, of="canaries", at_most=MAX_CANARIES, hint=_FORMATS)
    return tuple(_canary(number, line) for number, line in lines)


def as_json_lines(canaries: Sequence[Canary]) -> list[dict[str, str]]:
    """Return canaries as a request keeps them until it has ended."""
    return [vars(one) for one in canaries]


def _canary(number: int, line: str) -> Canary:
    try:
        given = json.loads(line) if line.lstrip().startswith("{") else {"text": line}
        text = checked_text(given["text"], "text").strip()
        prefix, label = (checked_text(given[name], name) if given.get(name) else "" for name in ("prefix", "label"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ExamplesError(f"Line {number} is not a canary", hint=_FORMATS) from error
    if not LEAST_CHARACTERS <= len(text) <= _LONGEST or len(prefix) > _LONGEST:
        raise ExamplesError(
            f"Line {number} is not a canary: it has {len(text):,} characters",
            hint=f"A string has {LEAST_CHARACTERS} to {_LONGEST} characters; shorter ones are met by chance.",
        )
    return Canary(text, prefix.lstrip(), label.strip()[:80] or f"line {number}")


def _drawn(character: str, draw: random.Random) -> str:
    return next((draw.choice(each) for each in _CLASSES if character in each), character)
