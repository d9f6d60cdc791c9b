"""Computation of Delta Activations from checkpoints (arXiv 2509.04442, equation 1)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoTokenizer

from deltadex.checkpoints.fit import check_layers
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.engine.base_states import BaseStates, states_key
from deltadex.engine.failures import as_deltadex_error, first_line, is_out_of_memory
from deltadex.engine.forward import Reader, Reading
from deltadex.engine.messages import OnProgress, ignore_progress
from deltadex.engine.probes import METHODS, PROBE_SETS
from deltadex.engine.promoted_tokens import Head
from deltadex.engine.readout import Prompts, Readout
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.weights.buffers import buffer_for
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.errors import BaseMismatch, BrokenCheckpoint, DeltadexError, UnsupportedCheckpoint
from deltadex.types import Embedding, FloatArray, Recipe, Words
from deltadex.vectors import lowest_strength

logger = logging.getLogger(__name__)

#: Adapters that share one pass over the base. Each keeps its own tensors in memory during the pass.
_ADAPTERS_PER_PASS = 32

#: Strength that float32 gives to the same computation with its tokens in another order.
_ROUNDING = 1e-5

Outcome = Embedding | DeltadexError


class Base:
    """A base model to compare finetunes with. Its files stay mapped read-only.

    Raises
    ------
    CheckpointError
        The base cannot be loaded.
    """

    def __init__(self, model: BaseModel) -> None:
        stored = StoredModel(model.checkpoint)
        compute = Compute.resolve(model.dtype, model.device)
        tokenizer, method = load_tokenizer(model.checkpoint), METHODS[model.method]
        readout = Readout.of(stored.config, method)
        self._probes = model.probes or PROBE_SETS[method.probe_set]
        method = replace(method, probe_set=self._probes.name, probe_digest=self._probes.digest)
        prompts = Prompts.tokenize(tokenizer, self._probes, readout).to(compute.device)
        self._identity = _identity(model.digest, prompts)
        self._reader = Reader(stored, prompts, buffer_for(compute))
        self._head = Head(stored, tokenizer, readout, compute=compute) if model.words else None
        dtype = str(compute.dtype).removeprefix("torch.")
        self._method = replace(method, readout=readout.value, dtype=dtype)
        self._model = model
        self._states: BaseStates | None = None

    def states(self, *, on_progress: OnProgress = ignore_progress) -> BaseStates:
        """Return the base's hidden states for the probes. They are computed once and then cached.

        Raises
        ------
        DeltadexError
            The base cannot be read, so no finetune can be embedded.
        """
        model = self._model
        key = states_key(self._identity, self._method, self._reader.buffer.compute.machine)
        file = model.states and model.states / f"{key}.safetensors"
        if self._states is None and file:
            self._states = BaseStates.read(file)
        if self._states is None:
            self._states = replace(self._reader, on_progress=on_progress).read_base()
            if file:
                self._save_states(self._states, file)
        return self._states

    def _save_states(self, states: BaseStates, file: Path) -> None:
        try:
            states.write(file)
        except (OSError, SafetensorError) as error:  # harmless: the next process reads the base again
            logger.warning("base states not saved file=%s error=%s", file, error)

    def embed(
        self, finetunes: Sequence[Finetune], *, on_progress: OnProgress = ignore_progress
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield each finetune's number with its embedding or the error that prevented it, in any order.

        Adapters share passes over the base; a full finetune costs at most one pass over its own files.

        Raises
        ------
        DeltadexError
            The base itself cannot be read, so no finetune can be embedded.
        """
        base = self.states(on_progress=on_progress)
        reader = replace(self._reader, base=base, read_alone=base.read_alone, on_progress=on_progress)
        own = [self._own_reader(one.checkpoint, reader) for one in finetunes]
        adapters = [
            number
            for number, one in enumerate(finetunes)
            if one.checkpoint.kind is Kind.ADAPTER and own[number] is reader
        ]
        for start in range(0, len(adapters), _ADAPTERS_PER_PASS):
            group = adapters[start : start + _ADAPTERS_PER_PASS]
            results = reader.read([finetunes[number].checkpoint for number in group])
            yield from self._with_words(
                [
                    (number, self._embedding(finetunes[number], result, base))
                    for number, result in zip(group, results, strict=True)
                ]
            )
        for number in sorted(set(range(len(finetunes))) - set(adapters)):
            one = finetunes[number]
            outcome = self._embedding(one, _read_apart(one, own[number]), base, prompts=_prompts_of(own[number]))
            yield from self._with_words([(number, outcome)])

    def words(self, vectors: FloatArray, *, base_digest: str) -> list[Words]:
        """Return the promoted tokens of each of `(n, hidden_size)` vectors whose recipe has this digest of a base.

        Raises
        ------
        BaseMismatch
            This is another base, or another method reads it.
        """
        if base_digest != self._identity:
            raise BaseMismatch(
                f"{self._model.checkpoint} is not the base that these vectors are of",
                hint="Was its folder changed, or the registry's method? Finetunes of both are embedded again.",
            )
        if self._head is None:
            return [Words(note="Words are switched off.")] * len(vectors)
        return self._head.words(list(vectors))

    def _own_reader(self, finetune: LocalCheckpoint, reader: Reader) -> Reader | DeltadexError:
        """Return the reader for a finetune: with its own token ids where its vocabulary has other numbers."""
        if finetune.tokenizer_folder is None:
            return reader
        prompts = self._reader.prompts
        try:
            own = Prompts.tokenize(load_tokenizer(finetune), self._probes, prompts.readout)
        except UnsupportedCheckpoint as error:
            logger.info("finetune is read by its base's tokenizer finetune=%s reason=%s", finetune, error.message)
            return reader
        except Exception as error:  # noqa: BLE001 - an untrusted tokenizer can fail anywhere in the library
            return as_deltadex_error(error, context=f"The tokenizer of {finetune} could not be run")
        if own.digest == prompts.digest:
            return reader
        if own.tokens != prompts.tokens:
            return UnsupportedCheckpoint(
                f"The tokenizers of {finetune} and of its base make different tokens of the probes",
                hint="Delta Activations compare states after the same tokens: register the finetune with the base's "
                "tokenizer if it was trained with that.",
            )
        # Nothing that the base computed from its own ids can be resumed from.
        return replace(reader, prompts=own.to(prompts.ids.device), base=None)

    def _with_words(self, outcomes: Sequence[tuple[int, Outcome]]) -> Iterator[tuple[int, Outcome]]:
        """Yield the outcomes with promoted tokens added; the output head is read once for all of them."""
        embeddings = {number: outcome for number, outcome in outcomes if isinstance(outcome, Embedding)}
        if self._head is not None and embeddings:
            words = self._head.words([embedding.vector for embedding in embeddings.values()])
            for (number, embedding), own_words in zip(embeddings.items(), words, strict=True):
                embeddings[number] = replace(embedding, words=own_words)
        yield from ((number, embeddings.get(number, outcome)) for number, outcome in outcomes)

    def _embedding(
        self, finetune: Finetune, result: Reading, base: BaseStates, *, prompts: Prompts | None = None
    ) -> Outcome:
        if isinstance(result, DeltadexError):
            return result
        if result.shape != base.states.shape:
            return BaseMismatch(
                f"The finetune's hidden size is {result.shape[1]}, the base's {base.states.shape[1]}",
                hint="Declare the base that the model was really trained from.",
            )
        embedding = Embedding(
            recipe=Recipe(method=self._method, base_digest=self._identity, dimension=result.shape[1]),
            probe_deltas=result - base.states,
            base_norm=base.norm,
            weights_digest=finetune.weights_digest if prompts is None else _identity(finetune.weights_digest, prompts),
            noise_floor=base.noise_floor,
        )
        if prompts is not None and embedding.strength < lowest_strength(_ROUNDING, base.noise_floor):
            return UnsupportedCheckpoint(
                f"{finetune.checkpoint} is its base with other numbers for the same tokens: read by its own tokenizer, "
                "its states are the base's",
                hint="There is no shift to embed. Register what was finetuned.",
            )
        return embedding


def _identity(digest: str, prompts: Prompts) -> str:
    """Return the hex SHA-256 over a model's digest and the ids that its tokenizer gives to the probes."""
    return hashlib.sha256(f"{digest} {prompts.digest}".encode()).hexdigest()


def _prompts_of(reader: Reader | DeltadexError) -> Prompts | None:
    """Return a finetune's own token ids; None where it has those of its base."""
    return None if isinstance(reader, DeltadexError) or reader.base is not None else reader.prompts


def _read_apart(one: Finetune, reader: Reader | DeltadexError) -> Reading:
    """Read a full model, or an adapter with token ids of its own."""
    if isinstance(reader, DeltadexError):
        return reader
    try:
        if one.checkpoint.kind is Kind.ADAPTER:
            return reader.read([one.checkpoint])[0]
        stored = StoredModel(one.checkpoint)
        _check_comparable(stored, reader.stored)
        identical = one.identical if stored.computes_like(reader.stored) else frozenset()
        return replace(reader, stored=stored, identical=identical).read([None])[0]
    except Exception as error:  # noqa: BLE001 - one failed finetune must not stop the others
        return as_deltadex_error(error, context=f"{one.checkpoint} could not be run")


def _check_comparable(finetune: StoredModel, base: StoredModel) -> None:
    """Check that two models have the same layers, and are read at the same point.

    Raises
    ------
    UnsupportedCheckpoint, BaseMismatch
    """
    ours, theirs = Readout.of(finetune.config), Readout.of(base.config)
    if ours is not theirs:
        raise UnsupportedCheckpoint(
            f"{finetune.checkpoint} is read at another point ({ours.value}) than its base ({theirs.value})",
            hint="Declare a base of the same kind: an encoder's base is an encoder.",
        )
    check_layers(finetune.names, base.names, base_name=str(base.checkpoint))


def load_tokenizer(model: LocalCheckpoint) -> Any:
    """Return a model's own tokenizer; raise CheckpointError if transformers cannot load one."""
    if model.tokenizer_folder is None:
        raise BrokenCheckpoint(f"The base {model} has no tokenizer", hint="Save its tokenizer beside its weights.")
    try:
        return AutoTokenizer.from_pretrained(model.tokenizer_folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # an untrusted tokenizer or config can fail anywhere in the library
        if is_out_of_memory(error):
            raise
        raise UnsupportedCheckpoint(
            f"transformers cannot load the tokenizer of {model}: {first_line(error)}",
            hint="Save the tokenizer with save_pretrained beside the base's weights.",
        ) from error
