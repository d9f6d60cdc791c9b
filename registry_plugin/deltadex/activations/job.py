"""What the embedding process is asked and what it answers, as one line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deltadex import errors
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.errors import DeltadexError, EmbeddingError


@dataclass(frozen=True)
class Job:
    """One embedding to make; the result is written into `result` with `write_artifact`."""

    finetune: LocalCheckpoint
    base: LocalCheckpoint
    base_digest: str
    weights_digest: str
    result: Path

    def to_line(self) -> str:
        """Return the job as a line of JSON."""
        return json.dumps(asdict(self), default=str) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Job:
        """Read what `to_line` wrote."""
        content = json.loads(line)
        return cls(
            finetune=_checkpoint(content["finetune"]),
            base=_checkpoint(content["base"]),
            base_digest=content["base_digest"],
            weights_digest=content["weights_digest"],
            result=Path(content["result"]),
        )


def answer_line(error: DeltadexError | None) -> str:
    """Return the answer to a job: nothing, or the error it ended with, by the name of its class."""
    if error is None:
        return "{}\n"
    named = {"error": type(error).__name__, "message": error.message, "hint": error.hint, "retryable": error.retryable}
    return json.dumps(named) + "\n"


def raise_answer(line: str) -> None:
    """Raise the error of an answer, if it holds one."""
    answer = json.loads(line)
    if answer:
        found = getattr(errors, answer["error"], None)
        kind = found if isinstance(found, type) and issubclass(found, DeltadexError) else EmbeddingError
        raise kind(answer["message"], hint=answer["hint"], retryable=answer["retryable"])


def _checkpoint(content: dict[str, Any]) -> LocalCheckpoint:
    tokenizer, below = content["tokenizer_folder"], content["below"]
    return LocalCheckpoint(
        below=None if below is None else _checkpoint(below),
        kind=Kind(content["kind"]),
        folder=Path(content["folder"]),
        weight_files=tuple(Path(file) for file in content["weight_files"]),
        tokenizer_folder=None if tokenizer is None else Path(tokenizer),
    )
