"""Requests to read, check, convert and embed checkpoints, and their results. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deltadex.checkpoints.fit import Fit
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.low_rank import LowRank
from deltadex.checkpoints.merge_check import Imprint
from deltadex.checkpoints.sketch import Sketch
from deltadex.engine.probes import ProbeSet
from deltadex.types import FloatArray


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
    probes
        Private probes to read by that method instead of its own; None for its own.
    """

    checkpoint: LocalCheckpoint
    digest: str
    dtype: str
    states: Path | None = None
    device: str = "cpu"
    words: bool = True
    method: str = "published"
    probes: ProbeSet | None = None


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


def _to_hex(values: FloatArray | None) -> str | None:
    return None if values is None else values.astype("<f4").tobytes().hex()


def _from_hex(text: str | None) -> FloatArray | None:
    return None if text is None else np.frombuffer(bytes.fromhex(text), "<f4").astype(np.float32)
