"""From checkpoints to embeddings: what finetunes do to their base's hidden states (arXiv 2509.04442, equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from deltadex.activations.base_states import BaseStates, states_key
from deltadex.activations.lockstep import Buffer
from deltadex.activations.passes import Reader, Reading
from deltadex.activations.readout import Prompts, Readout
from deltadex.activations.stored_model import StoredModel, first_line
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.domain import Embedding, Recipe
from deltadex.errors import BaseMismatch, BrokenCheckpoint, DeltadexError, UnsupportedCheckpoint
from deltadex.probes import DELTA_ACTIVATION, PAPER_PROBES

#: Adapters that share one pass over the base: each holds its own tensors in memory meanwhile.
_TOGETHER = 32


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


Outcome = tuple[Finetune, Embedding | DeltadexError]


class Base:
    """A base model that finetunes are compared with. It stays mapped, and nothing ever writes to it.

    Parameters
    ----------
    digest
        Of its weights: its identity, in every recipe.
    dtype
        What everything is computed in, `float32` or `bfloat16`; part of the recipe.
    states
        A folder in which the states of bases are kept.

    Raises
    ------
    CheckpointError
        The base can't be loaded.
    """

    def __init__(
        self,
        checkpoint: LocalCheckpoint,
        *,
        digest: str,
        dtype: str = DELTA_ACTIVATION.dtype,
        states: Path | None = None,
    ) -> None:
        stored = StoredModel(checkpoint)
        prompts = Prompts.tokenize(_load_tokenizer(checkpoint), PAPER_PROBES)
        self._reader = Reader(stored, prompts, Buffer(getattr(torch, dtype)))
        self._method = replace(DELTA_ACTIVATION, readout=Readout.of(stored.config).value, dtype=dtype)
        self._digest = digest
        self._folder = states
        self._states: BaseStates | None = None

    def states(self, *, on_bytes: Callable[[int], None] | None = None) -> BaseStates:
        """Return what the base makes of the probes; read once, then known.

        Raises
        ------
        DeltadexError
            The base can't be read: nothing can be embedded.
        """
        file = self._folder and self._folder / f"{states_key(self._digest, self._method)}.safetensors"
        if self._states is None and file:
            self._states = BaseStates.read(file)
        if self._states is None:
            self._states = replace(self._reader, on_bytes=on_bytes or self._reader.on_bytes).read_base()
            if file:
                self._states.write(file)
        return self._states

    def embed(
        self, finetunes: Sequence[Finetune], *, on_bytes: Callable[[int], None] | None = None
    ) -> Iterator[Outcome]:
        """Yield each finetune with its embedding or with the error that prevented it, in any order.

        Adapters go through the base together; a full finetune costs at most one pass over its own files.

        Raises
        ------
        DeltadexError
            The base itself can't be read: nothing can be embedded.
        """
        base = self.states(on_bytes=on_bytes)
        reader = replace(self._reader, base=base, on_bytes=on_bytes or self._reader.on_bytes)
        adapters = [one for one in finetunes if one.checkpoint.kind is Kind.ADAPTER]
        for start in range(0, len(adapters), _TOGETHER):
            group = adapters[start : start + _TOGETHER]
            for one, result in zip(group, reader.read([one.checkpoint for one in group]), strict=True):
                yield one, self._embedding(one, result, base)
        for one in finetunes:
            if one.checkpoint.kind is Kind.FULL:
                yield one, self._embedding(one, _read_full(one, reader), base)

    def _embedding(self, one: Finetune, result: Reading, base: BaseStates) -> Embedding | DeltadexError:
        if isinstance(result, DeltadexError):
            return result
        if result.shape != base.states.shape:
            return BaseMismatch(
                f"The finetune's hidden size is {result.shape[1]}, the base's {base.states.shape[1]}",
                hint="Declare the base that the model was really trained from.",
            )
        return Embedding(
            recipe=Recipe(method=self._method, base_digest=self._digest, dimension=result.shape[1]),
            probe_deltas=result - base.states,
            base_norm=base.norm,
            weights_digest=one.weights_digest,
        )


def _read_full(one: Finetune, reader: Reader) -> Reading:
    try:
        stored = StoredModel(one.checkpoint)
    except DeltadexError as error:
        return error
    return replace(reader, stored=stored, identical=one.identical).read([None])[0]


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
