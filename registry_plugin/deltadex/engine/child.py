"""The child process of one caller: it reads, converts, checks, embeds and runs checkpoints, and trains on examples.

It opens untrusted files, so it can be killed at any point. It works on one request at a time, and keeps the last base
loaded between them.
"""

from __future__ import annotations

import json
import logging
import resource
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from deltadex.checkpoints.digest import identical_tensors, weights_digest
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import Description, Kind, inspect
from deltadex.checkpoints.low_rank import LowRank, low_rank
from deltadex.checkpoints.merge_check import imprint
from deltadex.checkpoints.sketch import sketch
from deltadex.embeddings.artifact import write_artifact
from deltadex.engine import (
    chat_states,
    elicitation,
    likelihood,
    merging,
    replies,
    text_scan,
    text_states,
    tuning,
    weight_search,
)
from deltadex.engine.adapter_requests import (
    AdapterComparison,
    AdapterMerge,
    Extraction,
    FoundWeights,
    MergedAdapter,
    Tuning,
    WeightSearch,
)
from deltadex.engine.agreement import greedy_agreement
from deltadex.engine.conversion.convert import write_plain_copy
from deltadex.engine.conversion.methods import method_for
from deltadex.engine.delta import Base
from deltadex.engine.extraction import extract
from deltadex.engine.failures import as_deltadex_error, is_out_of_memory
from deltadex.engine.messages import Answer, Request, as_json, error_fields, parse_request, to_line
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
from deltadex.types import Words

_PROGRESS_SECONDS = 0.25
#: Memory for everything but weights: configs, headers, tensor names, samples. A model of 670 billion parameters needs
#: a tenth of it.
_READING_BYTES = 1 << 30

logger = logging.getLogger(__name__)


class Child:
    """Serves the requests of one caller until it leaves."""

    def __init__(self, caller: socket.socket) -> None:
        self._caller = caller
        self._lines = caller.makefile("rb")
        self._loaded: tuple[BaseModel, Base] | None = None

    def serve(self) -> None:
        """Answer each request; the last answer to it is marked as such."""
        for line in self._lines:
            self.send(Answer())  # from here on, a crash counts as caused by this request
            try:
                result = self._run(parse_request(line))
            except Exception as error:  # noqa: BLE001 - one failed request must not stop the next one
                cause = as_deltadex_error(error, context="The request failed")
                self.send(Answer(done=True, error=error_fields(cause)))
            else:
                self.send(Answer(done=True, result=result))

    def send(self, answer: Answer) -> None:
        """Send an answer to the caller."""
        self._caller.sendall(to_line(answer))

    def fetch(self, paths: Iterable[str]) -> Path:
        """Ask the caller to fetch files of the artifact that is inspected, and return the folder that holds them."""
        self.send(Answer(wanted=tuple(paths)))
        return Path(json.loads(self._lines.readline()))

    def _run(self, request: Request) -> object:
        match request:
            case Inspection():
                with _reading(request.where):
                    files = _CallersFiles(self, request.where, request.sizes)
                    return as_json(Description, inspect(files, read_pickles=request.read_pickles))
            case Conversion():
                return as_json(Converted, self._convert(request))
            case Digest():
                with _reading(str(request.checkpoint)):
                    return weights_digest(request.checkpoint, memo=request.memo)
            case Check():
                with _reading(f"{request.finetune} with its base {request.base_name}"):
                    return as_json(Checked, _check(request))
            case Job():
                self._embed(request)
            case Tuning():
                self._tune(request)
            case Extraction():
                return as_json(LowRank, extract(request, on_progress=_Progress(self)))
            case AdapterComparison():
                return greedy_agreement(request)
            case Replay():
                return as_json(Replies, self._replay(request))
            case Scoring():
                self._loaded = None  # free the memory of the last base
                scored = likelihood.score(request, on_examples=self._counting())
                return as_json(list[Scored], scored)
            case Texts():
                self._loaded = None
                np.save(request.states, text_states.mean_states(request).numpy())
            case AdapterMerge():
                return as_json(MergedAdapter, merging.merge_adapters(request))
            case WeightSearch():
                self._loaded = None
                found = weight_search.search(request, on_tried=lambda tried: self.send(Answer(number=tried)))
                return as_json(FoundWeights, found)
            case TextScan():
                self._loaded = None  # free the memory of the last base
                scanned = text_scan.scan(request, on_texts=self._counting())
                return as_json(Scanned, scanned)
            case ChatStates():
                self._loaded = None
                read = chat_states.chat_states(request, on_prompts=self._counting())
                np.savez(request.results, states=read.states[:, 0].numpy(), odds=read.odds.numpy())
            case Elicitation():
                self._loaded = None  # free the memory of the last base
                elicited = elicitation.elicit(request, on_texts=self._counting())
                return as_json(Elicited, elicited)
            case Lens():
                vectors = np.load(request.vectors)
                return as_json(list[Words], self._base(request.base).words(vectors, base_digest=request.base_digest))
        return None

    def _convert(self, request: Conversion) -> Converted:
        method = method_for(request.checkpoint)
        if method is None:
            return Converted(is_needed=False)

        def reserve(needs: int) -> None:
            self.send(Answer(needs=needs))
            if not self._lines.readline():
                raise ConnectionAbortedError("the caller has no room")  # and is removing the folder

        bits = write_plain_copy(request.checkpoint, method, request.folder, reserve=reserve)
        return Converted(is_needed=True, bits=bits)

    def _embed(self, job: Job) -> None:
        unanswered = set(range(len(job.finetunes)))
        try:
            for number, outcome in self._base(job.base).embed(job.finetunes, on_progress=_Progress(self)):
                if isinstance(outcome, DeltadexError):
                    self.send(Answer(number=number, error=error_fields(outcome)))
                else:
                    folder = job.results / str(number)
                    folder.mkdir()
                    write_artifact(outcome, folder, manifest={})
                    self.send(Answer(number=number))
                unanswered.remove(number)
        except Exception as error:  # noqa: BLE001 - the caller gets it as the outcome of each finetune
            cause = error_fields(as_deltadex_error(error, context="The base could not be run"))
            for number in unanswered:
                self.send(Answer(number=number, error=cause))

    def _base(self, model: BaseModel) -> Base:
        """Return the loaded base if it is this one, else load it."""
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # free its memory before loading the next one
            self._loaded = model, Base(model)
        return self._loaded[1]

    def _tune(self, request: Tuning) -> None:
        try:
            for done in tuning.tune(request):
                self.send(Answer(number=done))
        except Exception as error:
            raise as_deltadex_error(error, context="Training on the examples failed") from error

    def _replay(self, request: Replay) -> Replies:
        self._loaded = None  # free the memory of the last base
        return replies.replay(request, on_prompts=self._counting())

    def _counting(self) -> replies.OnPrompts:
        """Return a function that takes how much was done since its last call, and sends how much is done."""
        done = 0

        def report(more: int) -> None:
            nonlocal done
            done += more
            self.send(Answer(number=done))

        return report


class _CallersFiles:
    """Files that the caller lists and fetches. Implements `deltadex.downloads.files.Files`."""

    def __init__(self, child: Child, where: str, sizes: Mapping[str, int]) -> None:
        self._child = child
        self._sizes = sizes
        self.where = where

    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def fetch(self, paths: Iterable[str]) -> Path:
        return self._child.fetch(paths)


class _Progress:
    """Reports the bytes read to the caller a few times a second."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._read_bytes = 0
        self._reported_at = time.monotonic()

    def __call__(self, part: str, read_bytes: int) -> None:
        self._read_bytes += read_bytes
        if time.monotonic() - self._reported_at > _PROGRESS_SECONDS:
            self._reported_at = time.monotonic()
            self._child.send(Answer(read_bytes=self._read_bytes, part=part))


def _check(request: Check) -> Checked:
    finetune, base, memo = request.finetune, request.base, request.memo
    fit = check_fit(finetune, base, base_name=request.base_name)
    identical = identical_tensors(finetune, base, memo=memo) if finetune.kind is Kind.FULL else frozenset()
    described = Finetune(finetune, weights_digest(finetune, memo=memo), identical)
    rank = low_rank(finetune, base, identical=identical)
    return Checked.of(described, fit, imprint(finetune, base), rank, sketch(finetune, base))


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Limit the memory of everything but weights, and blame the artifact if that is not enough."""
    allowed, most = resource.getrlimit(resource.RLIMIT_DATA)
    needed = psutil.Process().memory_info().data + _READING_BYTES
    limit = needed if allowed == resource.RLIM_INFINITY else min(needed, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise BrokenCheckpoint(
            f"Reading {where} takes more than {_READING_BYTES / 1e9:.1f} GB of memory, without its weights",
            hint="Is a config, a tokenizer or the list of tensors damaged? Save it with save_pretrained.",
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))
