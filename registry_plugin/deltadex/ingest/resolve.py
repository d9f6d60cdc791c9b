"""First steps of the embedding flow: find and fetch the checkpoint and its base."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from deltadex.app import App
from deltadex.bases.declared import declared_base
from deltadex.bases.manner import manner_of
from deltadex.bases.resolve import base_files_of, hiding_details
from deltadex.checkpoints.fit import Fit
from deltadex.checkpoints.inspect import Checkpoint, Kind, LocalCheckpoint, chain
from deltadex.downloads.cache import Hold, open_cache
from deltadex.downloads.resume import FetchedFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.plain_copies import plain_copy
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.shared import base_model
from deltadex.errors import DeltadexError, IncompleteCheckpoint, UnsupportedCheckpoint
from deltadex.ingest.weight_readings import WeightReadings
from deltadex.metrics import queries as metrics
from deltadex.registry.artifacts import cache_key, version_files
from deltadex.registry.client import Run
from deltadex.types import ModelVersionRef, RegisteredVersion, VersionRow


@dataclass(frozen=True)
class Resolved:
    """A version with its checkpoint and base, identified from their configs alone.

    Attributes
    ----------
    run
        The version's run in MLflow, if there is one.
    """

    version: RegisteredVersion
    run: Run | None
    checkpoint: Checkpoint
    base_name: str
    base: Checkpoint

    @cached_property
    def weights_bytes(self) -> int:
        """Size of the finetune's weight files; 0 for files that their store lists without a size."""
        sizes = self.checkpoint.files.sizes()
        return sum(sizes[path] for path in self.checkpoint.weight_files)


@dataclass(frozen=True)
class Fetched:
    """A version whose weights are on this machine, are complete, and match the base.

    Attributes
    ----------
    weights_bytes
        Size of the finetune's weight files, as they were registered.
    """

    finetune: Finetune
    base: BaseModel
    fit: Fit
    weights_bytes: int
    weights: WeightReadings


def digest_as_embedded(version: VersionRow, fetched: Fetched) -> str:
    """Return the digest under which a further measurement of a version's weights is kept: that of its embedding.

    Raises
    ------
    UnsupportedCheckpoint
        The weights that were fetched are not those that were embedded.
    """
    own, known = fetched.finetune, version.weights_digest
    has_own_tokens = own.checkpoint.tokenizer_folder is not None  # then the digest of the embedding covers them as well
    if known not in (None, own.weights_digest) and not has_own_tokens:
        raise UnsupportedCheckpoint(
            f"The weights of {version.label} are not those that were embedded",
            hint="`deltadex retry` embeds what is there now.",
        )
    return known or own.weights_digest


class Bases:
    """Bases of one or more versions, each inspected, fetched and digested once. Callers may be threads.

    Parameters
    ----------
    hold
        Keeps their files in the cache.
    """

    def __init__(self, app: App, hold: Hold) -> None:
        self._app = app
        self._hold = hold
        self._inspected: dict[str, Checkpoint] = {}
        self._fetched: dict[str, BaseModel] = {}
        self._errors: dict[str, DeltadexError] = {}
        self._lock = threading.RLock()

    def inspect(self, name: str, process: EmbeddingProcess) -> Checkpoint:
        """Return a base as described by its small files.

        Raises
        ------
        CheckpointError
            It cannot be found or read.
        """
        settings = self._app.settings
        with self._reading(name):
            if name not in self._inspected:
                files = base_files_of(settings, self._app.registry, name, self._hold)
                with hiding_details(settings, name):
                    self._inspected[name] = process.inspect(files, read_pickles=settings.embedding.read_pickles)
            return self._inspected[name]

    def fetch(self, name: str, process: EmbeddingProcess) -> BaseModel:
        """Fetch a base's weights, make them plain, and return the engine's description of it.

        Raises
        ------
        CheckpointError, Shortage, EmbeddingError
            The last, retryable, if this worker computes in another dtype than the base's other finetunes were embedded
            in: the embeddings would not be comparable.
        """
        with self._reading(name):
            if name not in self._fetched:
                method, settings = self._app.database.run(lambda tx: manner_of(tx, self._app.settings, name))
                deadline_seconds = settings.embedding.deadline_seconds
                with hiding_details(settings, name):
                    stored = self._loaded(self.inspect(name, process))
                    plain = plain_copy(process, stored, self._hold, deadline_seconds=deadline_seconds)
                self._fetched[name] = base_model(settings, process, plain, method=method)
            return self._fetched[name]

    def _loaded(self, base: Checkpoint) -> LocalCheckpoint:
        """Fetch a base's weights, and count how often that was needed, and how often they were not here yet."""
        started = time.perf_counter()
        is_new = isinstance(base.files, FetchedFiles) and not base.files.has(base.weight_files)
        stored = base.fetch()
        seconds = time.perf_counter() - started
        steps = {"base": seconds, **({"base download": seconds} if is_new else {})}
        registry = self._app.registry.name
        self._app.database.run(lambda tx: metrics.add_steps(tx, registry, [steps], read_bytes=0))
        return stored

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """One thread at a time; what no retry mends is not tried for each version."""
        with self._lock:
            if name in self._errors:
                raise self._errors[name]
            try:
                yield
            except DeltadexError as error:
                if not error.retryable:
                    self._errors[name] = error
                raise


@contextmanager
def workspace(app: App, row: VersionRow) -> Iterator[Hold]:
    """Keep the files fetched for one version in the cache during the block.

    A killed run leaves the finetune's files for the next attempt. A run that ends removes them, because a finetune may
    change after registration. Bases stay until the cache is full.
    """
    cache = open_cache(app.settings)
    with cache.holding() as hold:
        yield hold
    cache.discard(cache_key(app.registry, row.registered.ref, role="finetune"))


def resolve(
    app: App,
    process: EmbeddingProcess,
    row: VersionRow,
    hold: Hold,
    *,
    bases: Bases | None = None,
    read_again: Callable[[ModelVersionRef], RegisteredVersion | None] | None = None,
) -> Resolved:
    """Read the version again, inspect its files and find its base. Only configs are fetched.

    Parameters
    ----------
    bases
        Bases that other versions have as well.
    read_again
        Reads the version, if many were read at once; default: asks the registry.

    Raises
    ------
    UnsupportedCheckpoint, BrokenCheckpoint, BaseNotFound
        The version can't be embedded; the message gives the reason.
    """
    ref, registry, bases = row.registered.ref, app.registry, bases or Bases(app, hold)
    version = read_again(ref) if read_again else registry.read(ref.name, ref.version)
    if version is None or version.ref != ref:
        raise UnsupportedCheckpoint(f"{ref.label} is no longer in the registry")
    run = registry.run_of(version)
    place = hold(cache_key(registry, ref, role="finetune"))
    with _upload_under_way(app, version):
        files = version_files(registry, version, place, parallel=app.settings.cache.parallel_files, run=run)
        checkpoint = process.inspect(files, read_pickles=app.settings.embedding.read_pickles)
    if f"models:/{ref.name}/{ref.version}" in app.settings.bases.values():
        # No hint: nothing needs to be done.
        raise UnsupportedCheckpoint(f"{ref.label} is itself a base: its finetunes are embedded against it")
    base_name = declared_base(checkpoint, version.tags)
    base = bases.inspect(base_name, process)
    if checkpoint.kind is base.kind is Kind.ADAPTER:
        checkpoint = chain(checkpoint, base)
        base_name = declared_base(checkpoint, {})
        base = bases.inspect(base_name, process)
    return Resolved(version, run, checkpoint, base_name, base)


def fetch(
    app: App, process: EmbeddingProcess, resolved: Resolved, hold: Hold, *, bases: Bases | None = None
) -> Fetched:
    """Fetch the weights, make them plain, compute their digests, and verify the declared base against them.

    A base in the cache does not change and is digested once. A finetune may change after registration.

    Raises
    ------
    UnsupportedCheckpoint, BrokenCheckpoint, BaseMismatch
    """
    bases, base_name = bases or Bases(app, hold), resolved.base_name
    deadline_seconds = app.settings.embedding.deadline_seconds
    # The copy goes where the finetune's files are, and is removed with them.
    own_key = cache_key(app.registry, resolved.version.ref, role="finetune")
    with _upload_under_way(app, resolved.version):
        stored = resolved.checkpoint.fetch()
        finetune = plain_copy(process, stored, hold, deadline_seconds=deadline_seconds, key=own_key)
        base = bases.fetch(base_name, process)
        checked = process.check(
            finetune,
            base.checkpoint,
            base_name=base_name,
            memo=app.settings.cache_dir / "digests",
            deadline_seconds=deadline_seconds,
        )
    weights_bytes = sum(file.stat().st_size for file in stored.weight_files)
    readings = WeightReadings(checked.imprint, checked.low_rank, checked.sketch)
    return Fetched(checked.finetune, base, checked.fit, weights_bytes, readings)


@contextmanager
def _upload_under_way(app: App, version: RegisteredVersion) -> Iterator[None]:
    """Have an error about missing files tried again while the version is new: it may be registered before its files."""
    try:
        yield
    except IncompleteCheckpoint as error:
        age_seconds = time.time() - version.ref.created_ms / 1000
        error.retryable = error.retryable or age_seconds < app.settings.watch.upload_seconds
        raise
