"""From checkpoints to embeddings: what finetunes do to their base's hidden states (arXiv 2509.04442, equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from deltadex.activations.lockstep import Buffer
from deltadex.activations.passes import Reader
from deltadex.activations.readout import Prompts, Readout
from deltadex.activations.stored_model import StoredModel, first_line
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.domain import Embedding, FloatArray, Recipe
from deltadex.errors import BaseMismatch, BrokenCheckpoint, DeltadexError, UnsupportedCheckpoint
from deltadex.probes import DELTA_ACTIVATION, PAPER_PROBES

#: Adapters that share one pass over the base: each holds its own tensors in memory meanwhile.
_TOGETHER = 32


@dataclass(frozen=True)
class Finetune:
    """A checkpoint to embed, and the digest of its weights."""

    checkpoint: LocalCheckpoint
    weights_digest: str


Outcome = tuple[Finetune, Embedding | DeltadexError]


class Base:
    """A base model that finetunes are compared with. It stays mapped, and nothing ever writes to it.

    Parameters
    ----------
    dtype
        What everything is computed in, `float32` or `bfloat16`; part of the recipe.

    Raises
    ------
    CheckpointError
        The base can't be loaded.
    """

    def __init__(self, checkpoint: LocalCheckpoint, *, digest: str, dtype: str = DELTA_ACTIVATION.dtype) -> None:
        stored = StoredModel(checkpoint)
        prompts = Prompts.tokenize(_load_tokenizer(checkpoint), PAPER_PROBES)
        self._reader = Reader(stored, prompts, Buffer(getattr(torch, dtype)))
        self._digest = digest
        self._method = replace(DELTA_ACTIVATION, readout=Readout.of(stored.config).value, dtype=dtype)
        self._states: FloatArray | None = None

    def embed(
        self, finetunes: Sequence[Finetune], *, on_bytes: Callable[[int], None] | None = None
    ) -> Iterator[Outcome]:
        """Yield each finetune with its embedding or with the error that prevented it, in any order.

        Adapters go through the base together; a full finetune costs one pass over its own files.

        Raises
        ------
        DeltadexError
            The base itself can't be read: nothing can be embedded.
        """
        reader = replace(self._reader, on_bytes=on_bytes or self._reader.on_bytes)
        adapters = [one for one in finetunes if one.checkpoint.kind is Kind.ADAPTER]
        for start in range(0, len(adapters), _TOGETHER):
            yield from self._embed_adapters(reader, adapters[start : start + _TOGETHER])
        for one in finetunes:
            if one.checkpoint.kind is Kind.FULL:
                yield one, self._embed_full(reader, one)

    def _embed_adapters(self, reader: Reader, group: Sequence[Finetune]) -> Iterator[Outcome]:
        """Embed adapters in one pass, from which the base's own states come too where they are not known yet."""
        itself = [None] if self._states is None else []
        results = reader.read([*itself, *(one.checkpoint for one in group)])
        if itself:
            self._states = _states(results.pop(0))
        for one, result in zip(group, results, strict=True):
            yield one, self._embedding(one, result)

    def _embed_full(self, reader: Reader, one: Finetune) -> Embedding | DeltadexError:
        if self._states is None:
            self._states = _states(reader.read([None])[0])
        try:
            stored = StoredModel(one.checkpoint)
        except DeltadexError as error:
            return error
        return self._embedding(one, replace(reader, stored=stored).read([None])[0])

    def _embedding(self, one: Finetune, result: FloatArray | DeltadexError) -> Embedding | DeltadexError:
        if isinstance(result, DeltadexError):
            return result
        base_states = self._states
        assert base_states is not None  # noqa: S101
        if result.shape != base_states.shape:
            return BaseMismatch(
                f"The finetune's hidden size is {result.shape[1]}, the base's {base_states.shape[1]}",
                hint="Declare the base that the model was really trained from.",
            )
        return Embedding(
            recipe=Recipe(method=self._method, base_digest=self._digest, dimension=result.shape[1]),
            probe_deltas=result - base_states,
            base_norm=float(np.linalg.norm(base_states, axis=1).mean()),
            weights_digest=one.weights_digest,
        )


def _states(result: FloatArray | DeltadexError) -> FloatArray:
    if isinstance(result, DeltadexError):
        raise result
    return result


def _load_tokenizer(base: LocalCheckpoint) -> Any:
    if base.tokenizer_folder is None:
        raise BrokenCheckpoint(
            f"The base {base.folder} has no tokenizer", hint="Save its tokenizer beside its weights."
        )
    try:
        return AutoTokenizer.from_pretrained(base.tokenizer_folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UnsupportedCheckpoint(
            f"transformers cannot load the tokenizer of {base.folder}: {first_line(error)}",
            hint="Save the tokenizer with save_pretrained beside the base's weights.",
        ) from error
