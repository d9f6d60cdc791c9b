"""Requests to the process that opens and embeds checkpoints. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np

from deltadex.checkpoints.inspect import Checkpoint, Description, LocalCheckpoint
from deltadex.checkpoints.low_rank import LowRank
from deltadex.downloads.files import Files
from deltadex.embeddings.artifact import read_artifact
from deltadex.engine.adapter_requests import (
    AdapterComparison,
    AdapterMerge,
    Extraction,
    FoundWeights,
    MergedAdapter,
    Tuning,
    WeightSearch,
)
from deltadex.engine.connection import Connection, too_late
from deltadex.engine.messages import OnProgress, from_json, ignore_progress
from deltadex.engine.requests import (
    BaseModel,
    Check,
    Checked,
    Conversion,
    Converted,
    Digest,
    Finetune,
    Inspection,
    Job,
    Lens,
)
from deltadex.engine.text_requests import (
    ChatStates,
    Elicitation,
    Elicited,
    Replay,
    Replies,
    Scanned,
    Scored,
    Scoring,
    Texts,
    TextScan,
)
from deltadex.errors import BrokenCheckpoint, DeltadexError
from deltadex.types import Embedding, FloatArray, Words

#: Limit for reading the small files of an artifact, apart from fetching them. An ordinary one takes a hundredth.
_INSPECTION_SECONDS = 30.0

Outcome = tuple[int, Embedding | DeltadexError]


class EmbeddingProcess(Connection):
    """A process that reads and embeds checkpoints; see `deltadex.engine.connection.Connection` for its life."""

    def inspect(self, files: Files, *, read_pickles: bool = False) -> Checkpoint:
        """Inspect an artifact; only the files that this needs are fetched.

        Parameters
        ----------
        read_pickles
            Accept weights that are a pickle.

        Raises
        ------
        CheckpointError
            See `deltadex.checkpoints.inspect.inspect`; or reading the files took too much time or memory.
        """
        request, where = Inspection(files.where, files.sizes(), read_pickles), files.where
        late = BrokenCheckpoint(
            f"Reading the small files of {where} took longer than {_INSPECTION_SECONDS:g} s",
            hint="Is a config damaged? Save the model with save_pretrained, or retry on a less busy machine.",
        )
        for answer in self.answers(request, _INSPECTION_SECONDS, late):
            if answer.wanted:
                self.send(json.dumps(str(files.fetch(answer.wanted))).encode() + b"\n")
            elif answer.done:
                description = from_json(Description, answer.result)
        return Checkpoint(files=files, **vars(description))

    def convert(
        self,
        checkpoint: LocalCheckpoint,
        folder: Path,
        *,
        deadline_seconds: float,
        reserve: Callable[[int], None] = lambda _: None,
    ) -> Converted:
        """Write a plain copy of a checkpoint into an empty folder, if its weights are packed.

        Parameters
        ----------
        reserve
            Called with the size of the copy in bytes before it is written.

        Raises
        ------
        CheckpointError
            The checkpoint cannot be converted.
        Shortage
            Memory ran out, or the deadline passed; the child was killed.
        """
        late = too_late(f"The conversion of {checkpoint} from {checkpoint.packed_by}", deadline_seconds)
        for answer in self.answers(Conversion(checkpoint, folder), deadline_seconds, late):
            if answer.needs is not None:
                reserve(answer.needs)
                self.send(b"\n")
            elif answer.done:
                converted = from_json(Converted, answer.result)
        return converted

    def digest(self, checkpoint: LocalCheckpoint, *, memo: Path, deadline_seconds: float) -> str:
        """Return a checkpoint's `weights_digest`."""
        late = too_late(f"Reading {checkpoint}", deadline_seconds)
        *_, last = self.answers(Digest(checkpoint, memo), deadline_seconds, late)
        return from_json(str, last.result)

    def check(
        self, finetune: LocalCheckpoint, base: LocalCheckpoint, *, base_name: str, memo: Path, deadline_seconds: float
    ) -> Checked:
        """Digest a finetune and compare its weights with its base's.

        Raises
        ------
        CheckpointError
            The finetune does not fit; see `deltadex.checkpoints.fit.check_fit`.
        """
        late = too_late(f"Reading {finetune}", deadline_seconds)
        *_, last = self.answers(Check(finetune, base, base_name, memo), deadline_seconds, late)
        return from_json(Checked, last.result)

    def embed(
        self,
        base: BaseModel,
        finetunes: Sequence[Finetune],
        *,
        deadline_seconds: float,
        on_progress: OnProgress = ignore_progress,
    ) -> Iterator[Outcome]:
        """Yield each finetune's number with its embedding, or with the error that prevented it, in any order.

        Parameters
        ----------
        deadline_seconds
            Limit for all finetunes together.
        on_progress
            Called a few times a second with the current part of the model and the bytes of weights read so far.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        EmbeddingError
            The child died; retryable, because another process may have taken the memory.
        """
        if not finetunes:
            return
        results = Path(mkdtemp(dir=self.results))
        late = too_late("The embedding", deadline_seconds)
        for answer in self.answers(Job(base, tuple(finetunes), results), deadline_seconds, late):
            if answer.number is not None:
                yield answer.number, answer.exception or read_artifact(results / str(answer.number))
            elif not answer.done:
                on_progress(answer.part, answer.read_bytes)
        rmtree(results)

    def tune(self, tuning: Tuning, *, deadline_seconds: float, on_step: Callable[[int], None] = lambda _: None) -> None:
        """Train an adapter and save it into the folder that the request names.

        Parameters
        ----------
        on_step
            Called after each step with the number of steps done.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        DeltadexError
            The training failed.
        """
        for answer in self.answers(tuning, deadline_seconds, too_late("Training on the examples", deadline_seconds)):
            if answer.number is not None:
                on_step(answer.number)

    def replay(
        self, request: Replay, *, deadline_seconds: float, on_share: Callable[[float], None] = lambda _: None
    ) -> Replies:
        """Return the replies of two models to the same prompts, and how likely each finds both.

        Parameters
        ----------
        on_share
            Called with the share of the work that is done: two replies and four likelihoods to each prompt.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        DeltadexError
            A model could not be run.
        """
        late = too_late("The replay", deadline_seconds)
        return from_json(Replies, self.counted(request, deadline_seconds, late, 6 * len(request.prompts), on_share))

    def score(
        self, request: Scoring, *, deadline_seconds: float, on_share: Callable[[float], None] = lambda _: None
    ) -> list[Scored]:
        """Return how likely a model finds the completion of each example; see `deltadex.engine.likelihood`.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        DeltadexError
            The model could not be run.
        """
        late = too_late("Scoring the examples", deadline_seconds)
        return from_json(list[Scored], self.counted(request, deadline_seconds, late, len(request.examples), on_share))

    def text_states(self, base: BaseModel, texts: Sequence[str], *, deadline_seconds: float) -> FloatArray:
        """Return `(n, hidden_size)` mean hidden states of texts; see `deltadex.engine.text_states`.

        Raises
        ------
        DeltadexError
            The base could not be run, or time or memory ran out.
        """
        with TemporaryDirectory(dir=self.results) as folder:
            file = Path(folder) / "states.npy"
            list(
                self.answers(
                    Texts(base, tuple(texts), file), deadline_seconds, too_late("Reading texts", deadline_seconds)
                )
            )
            states: FloatArray = np.load(file)
        return states

    def scan(
        self, request: TextScan, *, deadline_seconds: float, on_share: Callable[[float], None] = lambda _: None
    ) -> Scanned:
        """Return how likely a model finds fixed texts and tokens; see `deltadex.engine.text_scan`.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        DeltadexError
            The model could not be run.
        """
        late = too_late("Reading the texts", deadline_seconds)
        return from_json(Scanned, self.counted(request, deadline_seconds, late, len(request.texts), on_share))

    def chat_states(
        self,
        base: BaseModel,
        checkpoint: LocalCheckpoint | None,
        prompts: Sequence[str],
        *,
        openings: Sequence[str],
        depth: float,
        deadline_seconds: float,
        on_share: Callable[[float], None] = lambda _: None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return `(n, hidden_size)` last states of prompts and `(n,)` odds; see `deltadex.engine.chat_states`.

        Parameters
        ----------
        checkpoint
            A finetune of the base; None for the base itself.

        Raises
        ------
        DeltadexError
            The model could not be run, or time or memory ran out.
        """
        with TemporaryDirectory(dir=self.results) as folder:
            file = Path(folder) / "states.npz"
            request = ChatStates(base, checkpoint, tuple(prompts), tuple(openings), depth, file)
            late = too_late("Reading the prompts", deadline_seconds)
            self.counted(request, deadline_seconds, late, len(prompts), on_share)
            with np.load(file, allow_pickle=False) as found:
                return found["states"], found["odds"]

    def elicit(
        self, request: Elicitation, *, deadline_seconds: float, on_share: Callable[[float], None] = lambda _: None
    ) -> Elicited:
        """Return texts that a finetune says and its base does not; see `deltadex.engine.elicitation`.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        DeltadexError
            A model could not be run.
        """
        late = too_late("Continuing the texts", deadline_seconds)
        return from_json(Elicited, self.counted(request, deadline_seconds, late, request.texts, on_share))

    def words(self, base: BaseModel, base_digest: str, vectors: FloatArray, *, deadline_seconds: float) -> list[Words]:
        """Return the promoted tokens of each of `(n, hidden_size)` vectors, through the base's output head.

        Parameters
        ----------
        base_digest
            Digest in the recipe of the vectors.

        Raises
        ------
        BaseMismatch
            They are of another base, or of another method.
        DeltadexError
            The base cannot be read.
        """
        with TemporaryDirectory(dir=self.results) as folder:
            file = Path(folder) / "vectors.npy"
            np.save(file, vectors)
            late = too_late("Reading words", deadline_seconds)
            *_, last = self.answers(Lens(base, base_digest, file), deadline_seconds, late)
        return from_json(list[Words], last.result)

    def extract(
        self, extraction: Extraction, *, deadline_seconds: float, on_progress: OnProgress = ignore_progress
    ) -> LowRank:
        """Write the adapter that holds a full model's difference from its base; see `deltadex.engine.extraction`.

        Raises
        ------
        UnsupportedCheckpoint
            An adapter cannot hold the difference.
        Shortage
            Memory ran out, or the deadline passed; the child was killed.
        """
        late = too_late(f"The extraction from {extraction.finetune.checkpoint}", deadline_seconds)
        for answer in self.answers(extraction, deadline_seconds, late):
            if answer.done:
                found = from_json(LowRank, answer.result)
            else:
                on_progress(answer.part, answer.read_bytes)
        return found

    def merge(self, request: AdapterMerge, *, deadline_seconds: float) -> MergedAdapter:
        """Write the merge of several LoRA adapters; see `deltadex.engine.merging`.

        Raises
        ------
        UnsupportedCheckpoint
            The adapters cannot be merged by this method.
        Shortage
            Memory ran out, or the deadline passed; the child was killed.
        """
        *_, last = self.answers(request, deadline_seconds, too_late("The merge", deadline_seconds))
        return from_json(MergedAdapter, last.result)

    def search_weights(
        self, request: WeightSearch, *, deadline_seconds: float, on_share: Callable[[float], None] = lambda _: None
    ) -> FoundWeights:
        """Return weights for the sum of several LoRA adapters; see `deltadex.engine.weight_search`.

        Parameters
        ----------
        on_share
            Called with the share of the search that is done.

        Raises
        ------
        Shortage
            The deadline passed; the child was killed.
        DeltadexError
            The models could not be run, or the search's library is not installed.
        """
        for answer in self.answers(request, deadline_seconds, too_late("The search of weights", deadline_seconds)):
            if answer.number is not None:
                on_share(answer.number / request.budget)
        return from_json(FoundWeights, answer.result)

    def compare(self, comparison: AdapterComparison, *, deadline_seconds: float) -> float | None:
        """Return the greedy agreement of an adapter with its full model; see `deltadex.engine.agreement`.

        Raises
        ------
        DeltadexError
            One of them cannot be run, or time or memory ran out.
        """
        *_, last = self.answers(comparison, deadline_seconds, too_late("The comparison", deadline_seconds))
        return None if last.result is None else float(last.result)
