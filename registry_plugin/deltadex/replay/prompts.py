"""Prompts of a replay: from lines of a file, or from a table that a run logged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from deltadex.engine.examples import checked_text, numbered_lines
from deltadex.errors import ExamplesError

#: More would make a replay long without narrowing its intervals much.
MAX_PROMPTS = 500

_FORMATS = 'Each line is {"prompt": …}, or the plain text of a prompt.'


def read_prompts(text: str) -> tuple[str, ...]:
    """Read lines of JSON or of plain text; blank lines are skipped.

    Raises
    ------
    ExamplesError
        There are no prompts or too many, or a line (named by its number) is none.
    """
    lines = numbered_lines(text, of="prompts", at_most=MAX_PROMPTS, hint=_FORMATS)
    return tuple(_prompt(number, line) for number, line in lines)


def as_lines(prompts: Sequence[object]) -> str:
    """Return the cells of a table as lines for `read_prompts`, at most as many as that accepts; each text once."""
    distinct = list(dict.fromkeys(json.dumps(prompt) for prompt in prompts))
    return "\n".join(f'{{"prompt": {prompt}}}' for prompt in distinct[:MAX_PROMPTS])


def digest(prompts: Sequence[str]) -> str:
    """Return the hex SHA-256 over the prompts in their order."""
    return hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()


def _prompt(number: int, line: str) -> str:
    try:
        return checked_text(json.loads(line)["prompt"] if line.lstrip().startswith("{") else line, "prompt")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = "it has no prompt" if isinstance(error, KeyError) else str(error)
        raise ExamplesError(f"Line {number} is not a prompt: {reason}", hint=_FORMATS) from error
