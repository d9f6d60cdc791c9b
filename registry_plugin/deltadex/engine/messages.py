"""Messages to and from the process that opens checkpoints, each one line of JSON. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter

from deltadex import errors
from deltadex.engine.adapter_requests import (
    AdapterComparison,
    AdapterMerge,
    Extraction,
    Tuning,
    WeightSearch,
)
from deltadex.engine.requests import (
    Check,
    Conversion,
    Digest,
    Inspection,
    Job,
    Lens,
)
from deltadex.engine.text_requests import ChatStates, Elicitation, Replay, Scoring, Texts, TextScan
from deltadex.errors import DeltadexError

#: Called with a part of the model and the bytes of weights read: for that part (engine), or in total (client).
OnProgress = Callable[[str, int], None]

M = TypeVar("M")

_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def ignore_progress(_part: str, _read_bytes: int) -> None:
    """Discard a progress report."""


Request = (
    Inspection
    | Conversion
    | Digest
    | Check
    | Job
    | Tuning
    | Lens
    | Extraction
    | AdapterComparison
    | Replay
    | Scoring
    | Texts
    | AdapterMerge
    | WeightSearch
    | TextScan
    | ChatStates
    | Elicitation
)


@dataclass(frozen=True)
class Answer:
    """A result, an error or a progress report of a request.

    Attributes
    ----------
    done
        True in the last answer to a request.
    number
        Number of the finetune, or of training steps or prompts, that is done; None if the answer is about the whole
        request.
    error
        Class name and fields of the error that prevented a result.
    wanted
        Files that the caller should fetch; it answers with the folder that holds them.
    needs
        Bytes that the child is about to write; the caller answers with a line when it has made room for them.
    result
        Result of an inspection, a conversion, a digest, a check or a replay, or words.
    read_bytes, part
        Bytes of weights read so far, and the current part of the model.
    """

    done: bool = False
    number: int | None = None
    error: dict[str, Any] | None = None
    wanted: tuple[str, ...] = ()
    needs: int | None = None
    result: Any = None
    read_bytes: int = 0
    part: str = ""

    @property
    def exception(self) -> DeltadexError | None:
        """Return the error, if there is one."""
        if self.error is None:
            return None
        kind: type[DeltadexError] = getattr(errors, self.error["kind"])
        return kind(**{name: value for name, value in self.error.items() if name != "kind"})


def error_fields(error: DeltadexError) -> dict[str, Any]:
    """Return an error's class name and fields, as an answer has them."""
    return {"kind": type(error).__name__, **vars(error)}


def to_line(message: object) -> bytes:
    """Return a message as a line of JSON.

    By Python's own module, which escapes half a character (of a hostile name or config); pydantic's refuses it.
    """
    return json.dumps(as_json(type(message), message)).encode() + b"\n"


def parse_request(line: bytes) -> Request:
    """Return the request in a line of JSON."""
    request: Request = _adapter(Annotated[Request, Field(discriminator="task")]).validate_python(json.loads(line))
    return request


def parse_answer(line: bytes) -> Answer:
    """Return the answer in a line of JSON."""
    return from_json(Answer, json.loads(line))


def as_json(kind: type[M], value: M) -> object:
    """Return a result as an answer has it."""
    return _adapter(kind).dump_python(value, mode="json")


def from_json(kind: type[M], value: object) -> M:
    """Return the result in an answer."""
    result: M = _adapter(kind).validate_python(value)
    return result
