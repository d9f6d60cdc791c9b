"""Extraction of an adapter from a registered full model, and the check that it acts like the model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltadex.app import App
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.checkpoints.low_rank import LowRank
from deltadex.downloads.files import LocalFiles
from deltadex.engine import shared
from deltadex.engine.adapter_requests import AdapterComparison, Extraction
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.messages import OnProgress, ignore_progress
from deltadex.engine.requests import Finetune
from deltadex.errors import DeltadexError, UnsupportedCheckpoint
from deltadex.ingest.resolve import Fetched, fetch, resolve, workspace
from deltadex.types import VersionRow
from deltadex.vectors import cosine_similarity

#: Least similarity of the adapter's embedding to the model's, and least greedy agreement. docs/analyses.md says what
#: adapters of merges have.
LEAST_SIMILARITY, LEAST_AGREEMENT = 0.99, 0.9
#: Tokens by which each probe is continued.
_TOKENS = 32


@dataclass(frozen=True)
class ExtractedAdapter:
    """An adapter extracted from a version, with its check.

    Attributes
    ----------
    base_name
        The base that it is to be served on.
    similarity
        Cosine similarity of its embedding to the version's.
    agreement
        Share of equal greedy next tokens after the probes; None if the model generates no text.
    """

    base_name: str
    found: LowRank
    similarity: float
    agreement: float | None

    @property
    def acts_alike(self) -> bool:
        """True if the adapter passed the check."""
        agrees = self.agreement is None or self.agreement >= LEAST_AGREEMENT
        return self.similarity >= LEAST_SIMILARITY and agrees


def extract_adapter(
    app: App,
    row: VersionRow,
    output: Path,
    *,
    rank: int | None = None,
    keeps_any: bool = False,
    on_stage: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = ignore_progress,
) -> ExtractedAdapter:
    """Write a version's difference from its base as a LoRA adapter, if it acts like the version.

    Parameters
    ----------
    output
        Folder to write; it must not exist yet, or be empty.
    rank
        Rank of the adapter; None for the smallest one that holds the difference.
    keeps_any
        Keep an adapter that fails the check.
    on_stage, on_progress
        Called with what begins, and with the part of the model and the bytes of weights that it has read.

    Raises
    ------
    UnsupportedCheckpoint
        The version is an adapter already, or no adapter can hold the difference.
    DeltadexError
        It cannot be read or run.
    """
    with shared.embedding_process(app.settings) as process, workspace(app, row) as hold, unfinished(output) as folder:
        on_stage("fetching")
        resolved = resolve(app, process, row, hold)
        if resolved.checkpoint.kind is Kind.ADAPTER:
            raise UnsupportedCheckpoint(f"{row.label} is an adapter already", hint="Serve it as it is.")
        fetched = fetch(app, process, resolved, hold)
        seconds = app.settings.embedding.deadline_seconds
        on_stage("extracting")
        extraction = Extraction(fetched.finetune, fetched.base, resolved.base_name, folder, rank)
        found = process.extract(extraction, deadline_seconds=seconds, on_progress=on_progress)
        adapter = process.inspect(LocalFiles(folder)).fetch()
        on_stage("embedding")
        similarity = _similarity(process, fetched, adapter, deadline_seconds=seconds, on_progress=on_progress)
        on_stage("comparing the next tokens")
        comparison = AdapterComparison(fetched.finetune.checkpoint, adapter, fetched.base, _TOKENS)
        agreement = process.compare(comparison, deadline_seconds=seconds)
        extracted = ExtractedAdapter(resolved.base_name, found, similarity, agreement)
        if extracted.acts_alike or keeps_any:
            folder.rename(output)
    return extracted


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """Make a folder beside the output; whatever was not moved from it is removed."""
    folder = output.with_name(f".{output.name}.{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _similarity(
    process: EmbeddingProcess,
    fetched: Fetched,
    adapter: LocalCheckpoint,
    *,
    deadline_seconds: float,
    on_progress: OnProgress,
) -> float:
    """Return the cosine similarity of the model's embedding and the adapter's, both computed here and now."""
    models = [fetched.finetune, Finetune(adapter, weights_digest(adapter))]
    outcomes = dict(process.embed(fetched.base, models, deadline_seconds=deadline_seconds, on_progress=on_progress))
    vectors = []
    for number in range(len(models)):
        outcome = outcomes[number]
        if isinstance(outcome, DeltadexError):
            raise outcome
        vectors.append(outcome.vector)
    return float(cosine_similarity(vectors)[0, 1])
