"""From checkpoints to embeddings: what finetunes do to their base's hidden states (arXiv 2509.04442, equation 1)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoTokenizer

from deltadex.activations.base_states import BaseStates, states_key
from deltadex.activations.buffers import buffer_for
from deltadex.activations.compute import Compute
from deltadex.activations.failures import first_line, stated
from deltadex.activations.job import BaseModel, Finetune, OnProgress, ignore_progress
from deltadex.activations.passes import Reader, Reading
from deltadex.activations.readout import Prompts, Readout
from deltadex.activations.stored_model import StoredModel
from deltadex.activations.words import Head
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.domain import Embedding, Recipe
from deltadex.errors import BaseMismatch, BrokenCheckpoint, DeltadexError, UnsupportedCheckpoint
from deltadex.probes import DELTA_ACTIVATION, PAPER_PROBES

logger = logging.getLogger(__name__)

#: Adapters that share one pass over the base: each holds its own tensors in memory meanwhile.
_TOGETHER = 32


Outcome = Embedding | DeltadexError


class Base:
    """A base model that finetunes are compared with. It stays mapped, and nothing ever writes to it.

    Raises
    ------
    CheckpointError
        The base can't be loaded.
    """

    def __init__(self, model: BaseModel) -> None:
        stored = StoredModel(model.checkpoint)
        compute = Compute.resolve(model.dtype, model.device)
        tokenizer, readout = load_tokenizer(model.checkpoint), Readout.of(stored.config)
        prompts = Prompts.tokenize(tokenizer, PAPER_PROBES).to(compute.device)
        self._reader = Reader(stored, prompts, buffer_for(compute))
        self._head = Head(stored, tokenizer, readout, compute=compute) if model.words else None
        named = str(compute.dtype).removeprefix("torch.")
        self._method = replace(DELTA_ACTIVATION, readout=readout.value, dtype=named)
        self._model = model
        self._states: BaseStates | None = None

    def states(self, *, on_progress: OnProgress = ignore_progress) -> BaseStates:
        """Return what the base makes of the probes; read once, then known.

        Raises
        ------
        DeltadexError
            The base can't be read: nothing can be embedded.
        """
        model = self._model
        key = states_key(model.digest, self._method, self._reader.buffer.compute.machine)
        file = model.states and model.states / f"{key}.safetensors"
        if self._states is None and file:
            self._states = BaseStates.read(file)
        if self._states is None:
            self._states = replace(self._reader, on_progress=on_progress).read_base()
            if file:
                self._remember(self._states, file)
        return self._states

    def _remember(self, states: BaseStates, file: Path) -> None:
        try:
            states.write(file)
        except (OSError, SafetensorError) as error:  # the next process reads the base again, and that is all
            logger.warning("base states not kept file=%s error=%s", file, error)

    def embed(
        self, finetunes: Sequence[Finetune], *, on_progress: OnProgress = ignore_progress
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield each finetune's number with its embedding or the error that prevented it, in any order.

        Adapters go through the base together; a full finetune costs at most one pass over its own files.

        Raises
        ------
        DeltadexError
            The base itself can't be read: nothing can be embedded.
        """
        base = self.states(on_progress=on_progress)
        reader = replace(self._reader, base=base, on_progress=on_progress)
        adapters = [number for number, one in enumerate(finetunes) if one.checkpoint.kind is Kind.ADAPTER]
        for start in range(0, len(adapters), _TOGETHER):
            group = adapters[start : start + _TOGETHER]
            results = reader.read([finetunes[number].checkpoint for number in group])
            read = zip(group, results, strict=True)
            yield from self._with_words(
                [(number, self._embedding(finetunes[number], one, base)) for number, one in read]
            )
        for number in sorted(set(range(len(finetunes))) - set(adapters)):
            outcome = self._embedding(finetunes[number], _read_full(finetunes[number], reader), base)
            yield from self._with_words([(number, outcome)])

    def _with_words(self, outcomes: Sequence[tuple[int, Outcome]]) -> Iterator[tuple[int, Outcome]]:
        """Yield what was read together; for the words of all of it, the head is read once."""
        embeddings = {number: one for number, one in outcomes if isinstance(one, Embedding)}
        if self._head is not None and embeddings:
            words = self._head.words([one.vector for one in embeddings.values()])
            for (number, one), said in zip(embeddings.items(), words, strict=True):
                embeddings[number] = replace(one, words=said)
        yield from ((number, embeddings.get(number, one)) for number, one in outcomes)

    def _embedding(self, one: Finetune, result: Reading, base: BaseStates) -> Outcome:
        if isinstance(result, DeltadexError):
            return result
        if result.shape != base.states.shape:
            return BaseMismatch(
                f"The finetune's hidden size is {result.shape[1]}, the base's {base.states.shape[1]}",
                hint="Declare the base that the model was really trained from.",
            )
        return Embedding(
            recipe=Recipe(method=self._method, base_digest=self._model.digest, dimension=result.shape[1]),
            probe_deltas=result - base.states,
            base_norm=base.norm,
            weights_digest=one.weights_digest,
            noise_floor=base.noise_floor,
        )


def _read_full(one: Finetune, reader: Reader) -> Reading:
    try:
        stored = StoredModel(one.checkpoint)
        identical = one.identical if stored.computes_like(reader.stored) else frozenset()
        return replace(reader, stored=stored, identical=identical).read([None])[0]
    except Exception as error:  # noqa: BLE001 - the next one may be better
        return stated(error, what=f"{one.checkpoint.folder} could not be run")


def load_tokenizer(base: LocalCheckpoint) -> Any:
    """Return a base's own tokenizer; raises CheckpointError where it has none that transformers can load."""
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
