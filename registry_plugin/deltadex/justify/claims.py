"""Claims with quotes, kept only if the quote stands in a text word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deltadex.justify.sources import SourceText

#: Claims of a justification, and characters of each.
MOST_CLAIMS, MOST_CHARACTERS = 5, 300
#: A shorter quote stands in almost any text.
_SHORTEST_QUOTE = 12
_MOST_LINES = 50
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Claim:
    """One sentence about a candidate, with its evidence.

    Attributes
    ----------
    quote
        Part of the source, word for word; white space counts as one space.
    source
        Name of the first text that holds the quote.
    """

    text: str
    quote: str
    source: str


class _Written(BaseModel):
    """One line of an answer."""

    model_config = ConfigDict(strict=True)

    text: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    quote: str = Field(min_length=_SHORTEST_QUOTE, max_length=MOST_CHARACTERS)


def read_claims(answer: str, sources: Sequence[SourceText]) -> tuple[tuple[Claim, ...], int]:
    """Return the claims of an answer whose quotes are right, and the number of lines that were dropped."""
    claims, dropped = [], 0
    for line in _lines(answer):
        claim = _checked(line, sources)
        if claim is None:
            dropped += 1
        elif claim not in claims:
            claims.append(claim)
    return tuple(claims), dropped


def _lines(answer: str) -> Iterator[str]:
    lines = [line.strip().rstrip(",") for line in answer.splitlines()]
    yield from [line for line in lines if line and not line.startswith(("```", "[", "]"))][:_MOST_LINES]


def _checked(line: str, sources: Sequence[SourceText]) -> Claim | None:
    try:
        written = _Written.model_validate_json(line)
    except ValidationError:
        return None
    quote = _one_space(written.quote)
    source = next((each.name for each in sources if quote in _one_space(each.text)), None)
    # A number that the quote lacks would be the endpoint's own.
    if source is None or not {*_NUMBER.findall(written.text)} <= {*_NUMBER.findall(quote)}:
        return None
    return Claim(_one_space(written.text), quote, source)


def _one_space(text: str) -> str:
    return " ".join(text.split())
