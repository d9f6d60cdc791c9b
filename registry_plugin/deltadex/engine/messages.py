"""Messages to and from the process that opens checkpoints, each one line of JSON. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter

from deltadex import errors
from deltadex.checkpoints.fit import Fit
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.low_rank import LowRank
from deltadex.checkpoints.merge_check import Imprint
from deltadex.checkpoints.sketch import Sketch
from deltadex.engine.examples import Example
from deltadex.errors import DeltadexError
from deltadex.types import FloatArray

#: Called with a part of the model and the bytes of weights read: for that part (engine), or in total (client).
OnProgress = Callable[[str, int], None]
TokenIds = tuple[int, ...]

M = TypeVar("M")

_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def ignore_progress(_part: str, _read_bytes: int) -> None:
    """Discard a progress report."""


@dataclass(frozen=True)
class Finetune:
    """A checkpoint to embed.

    Attributes
    ----------
    weights_digest
        Hex SHA-256 over its tensors.
    identical
        Names of its tensors that are bit-identical to the base's; leading layers with only such tensors are skipped.
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
        Hex SHA-256 over its tensors and the part of its config that acts.
    dtype
        Dtype of all computation: `float32`, `bfloat16` or `auto`.
    device
        `cpu`, `cuda` or `auto`.
    states
        Folder of the cache of base states; None keeps them in memory only.
    words
        True to add promoted tokens to each embedding, through the base's output head.
    method
        Name in `deltadex.engine.probes.METHODS`.
    """

    checkpoint: LocalCheckpoint
    digest: str
    dtype: str
    states: Path | None = None
    device: str = "cpu"
    words: bool = True
    method: str = "published"


@dataclass(frozen=True)
class Inspection:
    """An artifact to inspect. The caller fetches the files that the inspection asks for.

    Attributes
    ----------
    where
        Name of the artifact, for messages.
    sizes
        Size in bytes of every file, by relative path.
    read_pickles
        See `deltadex.checkpoints.inspect.inspect`.
    """

    where: str
    sizes: Mapping[str, int]
    read_pickles: bool = False
    task: Literal["inspect"] = "inspect"


@dataclass(frozen=True)
class Digest:
    """A checkpoint to digest; `memo` is the folder of known digests."""

    checkpoint: LocalCheckpoint
    memo: Path
    task: Literal["digest"] = "digest"


@dataclass(frozen=True)
class Check:
    """A finetune to digest and to compare with its base; `memo` is the folder of known digests."""

    finetune: LocalCheckpoint
    base: LocalCheckpoint
    base_name: str
    memo: Path
    task: Literal["check"] = "check"


@dataclass(frozen=True)
class Conversion:
    """A checkpoint to write a plain copy of, into an empty folder."""

    checkpoint: LocalCheckpoint
    folder: Path
    task: Literal["convert"] = "convert"


@dataclass(frozen=True)
class Converted:
    """A plain copy.

    Attributes
    ----------
    is_needed
        False if the weights were plain already, and nothing was written.
    bits
        Mean bits per quantized weight; None if no weights were quantized.
    """

    is_needed: bool
    bits: float | None = None


@dataclass(frozen=True)
class Checked:
    """A finetune that fits its base.

    Attributes
    ----------
    weights, updates, base
        The arrays of its `Imprint` in hexadecimal; None if it has none.
    low_rank
        The rank of its difference from the base, if an adapter can hold it.
    layout, sampled
        The layout of its `Sketch`, and its bytes in hexadecimal; None if it has none.
    """

    finetune: Finetune
    fit: Fit
    weights: str | None = None
    updates: str | None = None
    base: str | None = None
    low_rank: LowRank | None = None
    layout: str | None = None
    sampled: str | None = None

    @classmethod
    def of(
        cls, finetune: Finetune, fit: Fit, imprint: Imprint | None, low_rank: LowRank | None, sketch: Sketch | None
    ) -> Checked:
        """Return the message of these values."""
        arrays = (imprint.values, imprint.updates, imprint.base) if imprint else (None, None, None)
        weights, updates, base = map(_to_hex, arrays)
        sketched = (sketch.layout, sketch.to_bytes().hex()) if sketch else (None, None)
        return cls(finetune, fit, weights, updates, base, low_rank, *sketched)

    @property
    def imprint(self) -> Imprint | None:
        """Return the sampled weights, if a merge can be predicted from them."""
        values = _from_hex(self.weights)
        bits = self.finetune.checkpoint.bits
        return values if values is None else Imprint(values, _from_hex(self.updates), bits, _from_hex(self.base))

    @property
    def sketch(self) -> Sketch | None:
        """Return the sampled weights, if lineage can be measured from them."""
        if self.layout is None or self.sampled is None:
            return None
        return Sketch.from_bytes(self.layout, bytes.fromhex(self.sampled))


@dataclass(frozen=True)
class Job:
    """Finetunes to embed against one base. The embedding of `finetunes[3]` is written to the folder `results/3`."""

    base: BaseModel
    finetunes: tuple[Finetune, ...]
    results: Path
    task: Literal["embed"] = "embed"


@dataclass(frozen=True)
class Tuning:
    """An adapter to train from examples of a task.

    Attributes
    ----------
    base
        The frozen base model, used in the dtype of its files.
    folder
        Destination of the adapter.
    learning_rate
        Initial rate of AdamW for a hidden size of 1,000. It is scaled by 1,000 / hidden size, because wider models need
        a lower rate, and decays linearly to a tenth.
    rank
        Rank of the LoRA at every linear layer; alpha is twice the rank.
    batch
        Examples per step; limited to their number.
    max_tokens
        Token limit per example; the prompt gets at most a third.
    as_scored
        True to train on prompts as `Scoring` has them, False for the header of searches; a completion then gets half.
    """

    base: BaseModel
    examples: tuple[Example, ...]
    folder: Path
    steps: int
    learning_rate: float
    rank: int = 8
    batch: int = 4
    max_tokens: int = 48
    seed: int = 0
    as_scored: bool = False
    task: Literal["tune"] = "tune"


@dataclass(frozen=True)
class Lens:
    """Vectors to read through the output head of the base that embedded them.

    Attributes
    ----------
    base_digest
        That base's, as recipes have it.
    vectors
        File of a `(n, hidden_size)` float32 array.
    """

    base: BaseModel
    base_digest: str
    vectors: Path
    task: Literal["read"] = "read"


@dataclass(frozen=True)
class Extraction:
    """An adapter to extract from a full model.

    Attributes
    ----------
    base_name
        Name of the base in the adapter's config.
    folder
        Destination of the adapter.
    rank
        Its rank; None for the smallest one that holds the difference.
    """

    finetune: Finetune
    base: BaseModel
    base_name: str
    folder: Path
    rank: int | None = None
    task: Literal["extract"] = "extract"


@dataclass(frozen=True)
class AdapterComparison:
    """A full model and an adapter extracted from it, which both continue the probes by so many tokens."""

    finetune: LocalCheckpoint
    adapter: LocalCheckpoint
    base: BaseModel
    tokens: int
    task: Literal["compare"] = "compare"


@dataclass(frozen=True)
class Replay:
    """Two models to answer the same prompts.

    Attributes
    ----------
    bases, checkpoints
        The models, each a finetune with its base.
    max_new_tokens
        Token limit per reply.
    max_prompt_tokens
        Token limit per prompt; of a longer one only its end is read.
    """

    bases: tuple[BaseModel, BaseModel]
    checkpoints: tuple[LocalCheckpoint, LocalCheckpoint]
    prompts: tuple[str, ...]
    max_new_tokens: int
    max_prompt_tokens: int = 1024
    task: Literal["replay"] = "replay"


@dataclass(frozen=True)
class Replies:
    """Replies of two models to the same prompts.

    Attributes
    ----------
    tokens
        `tokens[model][prompt]`: the reply's tokens, with the one that ends it unless the limit cut it.
    likelihoods
        `likelihoods[model][author][prompt]`: mean log-likelihood (nats per token) that a model gives to the reply of
        an author, itself or the other one.
    cut
        Number of prompts that were read from their end only.
    """

    tokens: tuple[tuple[TokenIds, ...], ...]
    likelihoods: tuple[tuple[tuple[float, ...], ...], ...]
    cut: int


@dataclass(frozen=True)
class Scoring:
    """Examples whose completions a model scores.

    Attributes
    ----------
    checkpoint
        A finetune of the base; None for the base itself.
    contexts
        In-context examples before each example; empty for none at all.
    max_tokens
        Token limit per example; a completion gets at most half, and of a longer prompt only the end is read.
    """

    base: BaseModel
    checkpoint: LocalCheckpoint | None
    examples: tuple[Example, ...]
    contexts: tuple[tuple[Example, ...], ...] = ()
    max_tokens: int = 1024
    task: Literal["score"] = "score"


@dataclass(frozen=True)
class Scored:
    """Likelihood of one completion.

    Attributes
    ----------
    nats
        Negative log-likelihood of the completion after its prompt, in nats.
    tokens
        Number of tokens of the completion.
    is_greedy
        True if greedy decoding writes exactly this completion.
    prompt_tokens
        Number of tokens before it.
    is_cut
        True if the limit cut the completion, or the start of what stands before it.
    bytes
        Length of the scored part of the completion in UTF-8.
    token_nats
        Negative log-likelihood of each of its tokens; their sum is `nats`.
    token_texts
        Text of each of its tokens, with its blanks.
    """

    nats: float
    tokens: int
    is_greedy: bool
    prompt_tokens: int
    is_cut: bool = False
    bytes: int = 0
    token_nats: tuple[float, ...] = ()
    token_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Texts:
    """Texts to read with a base.

    Attributes
    ----------
    states
        File to write the mean hidden state of each to, as a `(n, hidden_size)` float32 array.
    max_tokens
        Token limit per text.
    """

    base: BaseModel
    texts: tuple[str, ...]
    states: Path
    max_tokens: int = 256
    task: Literal["texts"] = "texts"


@dataclass(frozen=True)
class AdapterMerge:
    """LoRA adapters of one base to merge into one; see `deltadex.engine.merging`.

    Attributes
    ----------
    base_name
        Name of the base in the merged adapter's config.
    weights
        A factor per adapter.
    method
        Combination type of peft's `add_weighted_adapter`.
    folder
        Destination of the merged adapter.
    density
        Share of the entries that a pruning method keeps; None for the others.
    rank
        Rank for methods that end in `svd`; None for the largest of the parents.
    seed
        Seed of methods that prune at random.
    """

    base: BaseModel
    base_name: str
    adapters: tuple[LocalCheckpoint, ...]
    weights: tuple[float, ...]
    method: str
    folder: Path
    density: float | None = None
    rank: int | None = None
    seed: int = 0
    task: Literal["merge"] = "merge"


@dataclass(frozen=True)
class MergedAdapter:
    """An adapter that was merged from others.

    Attributes
    ----------
    conflict
        Share of the larger entries of the parents' updates at which two of them pull in opposite directions, mean over
        the modules; see `deltadex.engine.merging`.
    """

    rank: int
    adapter_bytes: int
    conflict: float


@dataclass(frozen=True)
class WeightSearch:
    """Weights to find for the sum of LoRA adapters, from examples of a task; see `deltadex.engine.weight_search`.

    Attributes
    ----------
    examples, held_out
        Examples that the search sees, and others that only judge what it found.
    budget
        Number of weightings that the search tries.
    max_tokens
        Token limit per example; a completion gets at most half.
    """

    base: BaseModel
    adapters: tuple[LocalCheckpoint, ...]
    examples: tuple[Example, ...]
    held_out: tuple[Example, ...]
    budget: int
    max_tokens: int = 256
    seed: int = 0
    task: Literal["search"] = "search"


@dataclass(frozen=True)
class Weighting:
    """Weights of adapters, and the loss of their sum.

    Attributes
    ----------
    nats, held_out_nats
        Mean negative log-likelihood in nats per token of the completions that the search saw, and of those that it did
        not see; the last is None where there are none.
    """

    weights: tuple[float, ...]
    nats: float
    held_out_nats: float | None = None


@dataclass(frozen=True)
class FoundWeights:
    """Result of a search of weights: the best that it met, beside the base alone, equal weights, and each adapter."""

    found: Weighting
    base: Weighting
    equal: Weighting
    singles: tuple[Weighting, ...]
    tried: int

    @property
    def overfits(self) -> bool:
        """True if another weighting does better on what was held out; False without held-out examples."""
        others = [one.held_out_nats for one in (self.base, self.equal, *self.singles) if one.held_out_nats is not None]
        return self.found.held_out_nats is not None and any(self.found.held_out_nats > one for one in others)


@dataclass(frozen=True)
class TextScan:
    """Texts and tokens whose likelihood a model gives.

    Attributes
    ----------
    checkpoint
        A finetune of the base; None for the base itself.
    start
        Text before each of the texts, at least one token.
    tokens
        Short strings; those that the tokenizer reads as one token count.
    """

    base: BaseModel
    checkpoint: LocalCheckpoint | None
    start: str
    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    task: Literal["scan"] = "scan"


@dataclass(frozen=True)
class Scanned:
    """Likelihoods that a model gives to texts and tokens.

    Attributes
    ----------
    texts
        Log-likelihood of each text, in nats.
    tokens
        Log-probability of each token among those of the scan, mean over all places of a text and then over the texts;
        None for a string that is not one token.
    """

    texts: tuple[float, ...]
    tokens: tuple[float | None, ...]


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


def _to_hex(values: FloatArray | None) -> str | None:
    return None if values is None else values.astype("<f4").tobytes().hex()


def _from_hex(text: str | None) -> FloatArray | None:
    return None if text is None else np.frombuffer(bytes.fromhex(text), "<f4").astype(np.float32)
