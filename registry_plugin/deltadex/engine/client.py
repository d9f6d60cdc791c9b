"""Client of the process that opens and embeds checkpoints, with hard deadlines. Imports no torch.

A timeout inside a process cannot interrupt a C library; killing the process can.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType
from typing import Self

import numpy as np
from filelock import FileLock

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
from deltadex.engine.isolation import isolated_environment, kill_group
from deltadex.engine.messages import Answer, OnProgress, Request, from_json, ignore_progress, parse_answer, to_line
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
from deltadex.errors import BrokenCheckpoint, DeltadexError, EmbeddingError, Resource, Shortage
from deltadex.fork_server import socket_address
from deltadex.types import Embedding, FloatArray, Words

logger = logging.getLogger(__name__)

#: Limit for reading the small files of an artifact, apart from fetching them. An ordinary one takes a hundredth.
_INSPECTION_SECONDS = 30.0
#: Limit for the import of torch on a machine with much other work.
_START_SECONDS = 300.0
#: Limit on one answer: an imprint has kilobytes, the names of a large model's tensors a few megabytes.
_MAX_LINE_BYTES = 64 << 20

Outcome = tuple[int, Embedding | DeltadexError]


class EmbeddingProcess:
    """A connection to a process that reads and embeds checkpoints; a context manager.

    The process starts at once, so that it imports torch while the caller still reads the registry. Each connection gets
    a child process of its own, which is killed when the connection ends, even if the caller crashed. After a crash or a
    missed deadline the next request starts a new one.

    Parameters
    ----------
    shared_by
        Folder of a process shared by all callers that name it, so that only the first one waits for imports. None
        starts a private process.
    keep_warm_seconds
        Time that a process without callers waits for the next one.
    memory_bytes
        Limit on each child's anonymous memory (not backed by a file); None for no limit.
    threads
        Threads that torch may use; None for one per processor.
    """

    def __init__(
        self,
        *,
        shared_by: Path | None = None,
        keep_warm_seconds: float = 0,
        memory_bytes: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._shared_by = shared_by
        self._arguments = (str(keep_warm_seconds), str(memory_bytes or 0))
        self._environment = isolated_environment()
        if threads is not None:
            self._environment["OMP_NUM_THREADS"] = str(threads)

    def __enter__(self) -> Self:
        self._results = TemporaryDirectory(prefix="deltadex-embed-")
        self._folder = self._shared_by or Path(self._results.name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = socket.socket(socket.AF_UNIX)
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        if self._shared_by is None:
            kill_group(self.pid)
        self._results.cleanup()

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
        for answer in self._answers(request, _INSPECTION_SECONDS, late):
            if answer.wanted:
                self._connection.sendall(json.dumps(str(files.fetch(answer.wanted))).encode() + b"\n")
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
        late = _too_late(f"The conversion of {checkpoint} from {checkpoint.packed_by}", deadline_seconds)
        for answer in self._answers(Conversion(checkpoint, folder), deadline_seconds, late):
            if answer.needs is not None:
                reserve(answer.needs)
                self._connection.sendall(b"\n")
            elif answer.done:
                converted = from_json(Converted, answer.result)
        return converted

    def digest(self, checkpoint: LocalCheckpoint, *, memo: Path, deadline_seconds: float) -> str:
        """Return a checkpoint's `weights_digest`."""
        late = _too_late(f"Reading {checkpoint}", deadline_seconds)
        *_, last = self._answers(Digest(checkpoint, memo), deadline_seconds, late)
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
        late = _too_late(f"Reading {finetune}", deadline_seconds)
        *_, last = self._answers(Check(finetune, base, base_name, memo), deadline_seconds, late)
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
        results = Path(mkdtemp(dir=self._results.name))
        late = _too_late("The embedding", deadline_seconds)
        for answer in self._answers(Job(base, tuple(finetunes), results), deadline_seconds, late):
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
        for answer in self._answers(tuning, deadline_seconds, _too_late("Training on the examples", deadline_seconds)):
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
        late = _too_late("The replay", deadline_seconds)
        return from_json(Replies, self._counted(request, deadline_seconds, late, 6 * len(request.prompts), on_share))

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
        late = _too_late("Scoring the examples", deadline_seconds)
        return from_json(list[Scored], self._counted(request, deadline_seconds, late, len(request.examples), on_share))

    def text_states(self, base: BaseModel, texts: Sequence[str], *, deadline_seconds: float) -> FloatArray:
        """Return `(n, hidden_size)` mean hidden states of texts; see `deltadex.engine.text_states`.

        Raises
        ------
        DeltadexError
            The base could not be run, or time or memory ran out.
        """
        with TemporaryDirectory(dir=self._results.name) as folder:
            file = Path(folder) / "states.npy"
            list(
                self._answers(
                    Texts(base, tuple(texts), file), deadline_seconds, _too_late("Reading texts", deadline_seconds)
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
        late = _too_late("Reading the texts", deadline_seconds)
        return from_json(Scanned, self._counted(request, deadline_seconds, late, len(request.texts), on_share))

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
        with TemporaryDirectory(dir=self._results.name) as folder:
            file = Path(folder) / "states.npz"
            request = ChatStates(base, checkpoint, tuple(prompts), tuple(openings), depth, file)
            late = _too_late("Reading the prompts", deadline_seconds)
            self._counted(request, deadline_seconds, late, len(prompts), on_share)
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
        late = _too_late("Continuing the texts", deadline_seconds)
        return from_json(Elicited, self._counted(request, deadline_seconds, late, request.texts, on_share))

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
        with TemporaryDirectory(dir=self._results.name) as folder:
            file = Path(folder) / "vectors.npy"
            np.save(file, vectors)
            late = _too_late("Reading words", deadline_seconds)
            *_, last = self._answers(Lens(base, base_digest, file), deadline_seconds, late)
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
        late = _too_late(f"The extraction from {extraction.finetune.checkpoint}", deadline_seconds)
        for answer in self._answers(extraction, deadline_seconds, late):
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
        *_, last = self._answers(request, deadline_seconds, _too_late("The merge", deadline_seconds))
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
        for answer in self._answers(request, deadline_seconds, _too_late("The search of weights", deadline_seconds)):
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
        *_, last = self._answers(comparison, deadline_seconds, _too_late("The comparison", deadline_seconds))
        return None if last.result is None else float(last.result)

    def _counted(
        self, request: Request, seconds: float, late: DeltadexError, total: int, on_share: Callable[[float], None]
    ) -> object:
        """Send a request, report the share of `total` that its answers count, and return its result."""
        for answer in self._answers(request, seconds, late):
            if answer.number is not None:
                on_share(answer.number / total)
        return answer.result

    def _answers(self, request: Request, seconds: float, late: DeltadexError) -> Iterator[Answer]:
        """Send a request and yield its answers. The clock starts with the first one, and stops while the caller works.

        A caller that stops listening before the last answer gets a new child for its next request.
        """
        is_done = False
        try:
            self._begin(to_line(request))
            while not is_done:
                before = time.monotonic()
                line = self._next_line(seconds, late)
                seconds -= time.monotonic() - before
                if not line:
                    raise self._crash_error()
                answer = parse_answer(line)
                is_done = answer.done
                if answer.done and answer.exception:
                    raise answer.exception
                yield answer
        finally:
            if not is_done:
                self._leave()

    def _begin(self, request: bytes) -> None:
        """Send a request and wait until a child has taken it; the process or the idle child may have just ended."""
        late = EmbeddingError(
            f"The embedding process did not start within {_START_SECONDS:g} s",
            hint="Is the machine overloaded? See embedder.log in the data folder.",
            retryable=True,
        )
        with suppress(OSError):
            self._connection.sendall(request)
            if self._next_line(_START_SECONDS, late):
                return
        self._connect()
        self._connection.sendall(request)
        if not self._next_line(_START_SECONDS, late):
            raise self._crash_error()

    def _next_line(self, seconds: float, late: DeltadexError) -> bytes:
        """Return the child's next line; empty if it has ended."""
        try:
            self._connection.settimeout(max(0.001, seconds))
            line = self._lines.readline(_MAX_LINE_BYTES)
            self._connection.settimeout(None)
        except TimeoutError:
            raise late from None
        except ConnectionError:
            return b""
        return line

    def _leave(self) -> None:
        """End the connection; the process then kills the child."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._connection.close()

    def _connect(self) -> None:
        """Connect to the folder's embedder; start one if none is running."""
        with FileLock(self._folder / "lock"), socket_address(self._folder) as address:
            self._connection.close()
            self._connection = socket.socket(socket.AF_UNIX)
            try:
                self._connection.connect(address)
            except OSError:  # no embedder was started here yet, or it has exited
                self._start(address)
                self._connection.connect(address)
            self.pid = int((self._folder / "pid").read_text())
        self._lines = self._connection.makefile("rb")

    def _start(self, address: str) -> None:
        (self._folder / "socket").unlink(missing_ok=True)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(address)
            listener.listen()
            listener.set_inheritable(True)
            # -P: a file in the working directory must not shadow a library
            module = [sys.executable, "-P", "-m", "deltadex.engine.server"]
            log_file = str(self._folder / "embedder.log")
            pid = os.posix_spawn(
                sys.executable,
                [*module, str(listener.fileno()), *self._arguments],
                self._environment,
                setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )
        (self._folder / "pid").write_text(str(pid))

    def _crash_error(self) -> EmbeddingError:
        log = (self._folder / "embedder.log").read_text(errors="replace").strip()
        logger.info("embedding process died log=%s", log[-2000:])
        last_line = log.rpartition("\n")[2][-500:]
        return EmbeddingError(
            f"The embedding process died{f': {last_line}' if last_line else ''}",
            hint="Memory may have run out: give the worker more, or set DELTADEX_EMBEDDING__MEMORY_BYTES.",
            retryable=True,
        )


def _too_late(what: str, seconds: float) -> Shortage:
    return Shortage(
        f"{what} took longer than {seconds:g} s and was stopped",
        hint="Raise DELTADEX_EMBEDDING__DEADLINE_SECONDS, or give the worker more processors.",
        resource=Resource.TIME,
        more_than=seconds,
    )


def end_shared(folder: Path) -> None:
    """End the shared process of a folder, if it is still running."""
    with suppress(OSError), closing(socket.socket(socket.AF_UNIX)) as connection, socket_address(folder) as address:
        connection.connect(address)
        kill_group(int((folder / "pid").read_text()))
