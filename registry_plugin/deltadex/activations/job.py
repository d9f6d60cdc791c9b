"""What the embedder is asked and what it answers, each as one line of JSON. Knows no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deltadex import errors
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.errors import DeltadexError
from deltadex.examples import Example, from_json

#: Called with the name of a part of the model and the bytes of weights that were read for it, or until it.
OnProgress = Callable[[str, int], None]


def ignore_progress(_part: str, _read_bytes: int) -> None:
    """Be told about progress and do nothing."""


@dataclass(frozen=True)
class Finetune:
    """A checkpoint to embed.

    Attributes
    ----------
    weights_digest
        Hex SHA-256 over its tensors.
    identical
        Names of its tensors that are the base's to the last bit: what computes like the base is not computed again.
    """

    checkpoint: LocalCheckpoint
    weights_digest: str
    identical: frozenset[str] = frozenset()


@dataclass(frozen=True)
class BaseModel:
    """A base to compare with.

    Attributes
    ----------
    digest
        Hex SHA-256 over its tensors: its identity.
    dtype
        What everything is computed in: `float32`, `bfloat16` or `auto`.
    device
        Where: `cpu`, `cuda` or `auto`.
    states
        A folder in which the states of bases are kept; None keeps them in memory only.
    words
        Whether its output head is asked what each embedding says.
    """

    checkpoint: LocalCheckpoint
    digest: str
    dtype: str
    states: Path | None = None
    device: str = "cpu"
    words: bool = True


@dataclass(frozen=True)
class Job:
    """Embeddings to make against one base; those of `finetunes[3]` go into `results/3` with `write_artifact`."""

    base: BaseModel
    finetunes: tuple[Finetune, ...]
    results: Path

    def to_line(self) -> bytes:
        """Return the job as a line of JSON."""
        return _line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> Job:
        """Read what `to_line` wrote."""
        content = json.loads(line)
        return cls(
            base=_base(content["base"]),
            finetunes=tuple(
                Finetune(_checkpoint(one["checkpoint"]), one["weights_digest"], frozenset(one["identical"]))
                for one in content["finetunes"]
            ),
            results=Path(content["results"]),
        )


@dataclass(frozen=True)
class Tuning:
    """An adapter to train from examples of a task.

    Attributes
    ----------
    base
        Its frozen weights are used as they are in its files, and on its device.
    learning_rate
        Of AdamW at the first step, times 1,000 / hidden size: wider models take less. It falls linearly to a tenth.
    rank
        Of the LoRA matrices at every linear layer; α is twice as much.
    batch
        Examples per step; all of them where there are fewer.
    max_tokens
        Of one example, at most half of them for what is to be written.
    """

    base: BaseModel
    examples: tuple[Example, ...]
    steps: int
    learning_rate: float
    rank: int = 8
    batch: int = 8
    max_tokens: int = 256
    seed: int = 0

    def to_line(self) -> bytes:
        """Return the request as a line of JSON."""
        return _line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> Tuning:
        """Read what `to_line` wrote."""
        content = json.loads(line)
        return cls(**{**content, "base": _base(content["base"]), "examples": from_json(content["examples"])})


@dataclass(frozen=True)
class Step:
    """News about a tuning: how many steps are done, or the error that ended it."""

    done: int = 0
    error: DeltadexError | None = None

    def to_line(self) -> bytes:
        """Return the news as a line of JSON."""
        return _line({"done": self.done, "error": _described(self.error)})

    @classmethod
    def from_line(cls, line: bytes) -> Step:
        """Read what `to_line` wrote."""
        content = json.loads(line)
        return cls(content["done"], content["error"] and _error(content["error"]))


@dataclass(frozen=True)
class Answer:
    """News about a job.

    Attributes
    ----------
    number
        Of the finetune that is done; None where the news is about all of them.
    error
        Why it could not be embedded; None where its result is written.
    read_bytes, at
        Weights read so far for the jobs that go together, and the part of the model that computes.
    """

    number: int | None = None
    error: DeltadexError | None = None
    read_bytes: int = 0
    at: str = ""

    def to_line(self) -> bytes:
        """Return the answer as a line of JSON; an error goes by the name of its class."""
        error = _described(self.error)
        return _line({"number": self.number, "error": error, "read_bytes": self.read_bytes, "at": self.at})

    @classmethod
    def from_line(cls, line: bytes) -> Answer:
        """Read what `to_line` wrote."""
        content = json.loads(line)
        error = content["error"] and _error(content["error"])
        return cls(content["number"], error, content["read_bytes"], content["at"])


def _described(error: DeltadexError | None) -> Mapping[str, object] | None:
    return None if error is None else {"kind": type(error).__name__, **vars(error)}


def _error(content: Mapping[str, Any]) -> DeltadexError:
    kind: type[DeltadexError] = getattr(errors, content["kind"])
    return kind(**{name: value for name, value in content.items() if name != "kind"})


def _base(content: Mapping[str, Any]) -> BaseModel:
    states = content["states"]
    return BaseModel(
        **{
            **content,
            "checkpoint": _checkpoint(content["checkpoint"]),
            "states": None if states is None else Path(states),
        }
    )


def _checkpoint(content: dict[str, Any]) -> LocalCheckpoint:
    tokenizer, below = content["tokenizer_folder"], content["below"]
    return LocalCheckpoint(
        kind=Kind(content["kind"]),
        folder=Path(content["folder"]),
        weight_files=tuple(Path(file) for file in content["weight_files"]),
        tokenizer_folder=None if tokenizer is None else Path(tokenizer),
        below=None if below is None else _checkpoint(below),
    )


def _line(content: object) -> bytes:
    return (
        json.dumps(
            content, default=lambda value: sorted(value) if isinstance(value, frozenset) else str(value)
        ).encode()
        + b"\n"
    )
