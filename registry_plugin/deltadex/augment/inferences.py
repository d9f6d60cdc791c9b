"""Global augmentation: inferences across a set of examples, written by an endpoint and filtered here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from deltadex.augment.augmented import Augmented, Drop, Origin
from deltadex.augment.filtering import Sieve
from deltadex.endpoint.outgoing import AgreedEndpoint
from deltadex.engine.examples import MAX_EXAMPLES, Example, to_json

#: Examples per request. All of them are shown together, so that something can follow from several.
_PER_REQUEST = 20
#: Lines of an answer that are read.
_MOST_LINES = 100

INSTRUCTION = (
    "Each text is a numbered example of one task: a prompt and its completion. Write further examples that follow "
    "from several of them together: what two of them imply, compare or have in common. Use only what the examples "
    'say. Answer with JSON lines and nothing else: {"prompt": "…", "completion": "…", "sources": [numbers of examples]}'
)


class _Inferred(BaseModel):
    """One line of an answer."""

    model_config = ConfigDict(strict=True)

    prompt: str
    completion: str
    sources: tuple[int, ...]


def texts_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return the texts that inferences are drawn from, exactly as they are sent."""
    return tuple(
        f"Example {number}: {json.dumps(one, ensure_ascii=False)}"
        for number, one in enumerate(to_json(examples), start=1)
    )


def offer(sieve: Sieve, given: Sequence[Example], endpoint: AgreedEndpoint) -> None:
    """Ask the endpoint for inferences and offer them to a sieve.

    Raises
    ------
    EndpointError
        The endpoint failed.
    """
    texts, model = texts_of(given), endpoint.agreed.endpoint.model
    for start in range(0, len(texts), _PER_REQUEST):
        part = range(start, min(start + _PER_REQUEST, len(texts)))
        answer = endpoint.ask(INSTRUCTION, [texts[place] for place in part])
        for line in _lines(answer):
            candidate = _read(line, part, model)
            if candidate is None:
                sieve.dropped[Drop.UNREADABLE] += 1
            elif len(given) + len(sieve.kept) < MAX_EXAMPLES:
                sieve.offer(candidate)


def _lines(answer: str) -> Iterator[str]:
    """Yield what may be a line of JSON; models put fences and sentences around them."""
    lines = [line.strip() for line in answer.splitlines()]
    yield from [line for line in lines if line and not line.startswith("```")][:_MOST_LINES]


def _read(line: str, part: range, model: str) -> Augmented | None:
    """Return the inference of a line; None unless it has the form, and at least two sources that were sent with it."""
    try:
        found = _Inferred.model_validate_json(line)
    except ValidationError:
        return None
    sources = tuple(sorted({number - 1 for number in found.sources}))
    if len(sources) < 2 or not all(place in part for place in sources):
        return None
    return Augmented(Example(found.prompt, found.completion), Origin.INFERRED, sources, model)
