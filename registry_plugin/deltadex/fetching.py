"""What must lie on this machine before a version can be embedded: its checkpoint, whole, and the base that it fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deltadex.activations.job import BaseModel, Finetune
from deltadex.checkpoints.base import declared_base, locate_base
from deltadex.checkpoints.cache import Hold
from deltadex.checkpoints.digest import identical_tensors, weights_digest
from deltadex.checkpoints.files import Files
from deltadex.checkpoints.fit import Fit, check_fit
from deltadex.checkpoints.hub import hub_files, is_hub_name
from deltadex.checkpoints.imprint import Imprint, imprint
from deltadex.checkpoints.layout import Checkpoint, Kind, LocalCheckpoint, chain, inspect
from deltadex.domain import RegisteredVersion, VersionRow
from deltadex.errors import BaseNotFound, UnsupportedCheckpoint
from deltadex.limits import open_cache
from deltadex.mlflow_edge.artifacts import base_files, cache_key, version_files
from deltadex.mlflow_edge.registry import Registry
from deltadex.services import Services
from deltadex.settings import Settings


@dataclass(frozen=True)
class Resolved:
    """A version whose checkpoint and base are known, by their configs alone."""

    version: RegisteredVersion
    checkpoint: Checkpoint
    base_name: str
    base: Checkpoint


@dataclass(frozen=True)
class Fetched:
    """A version whose weights lie on this machine, are whole, and fit their base."""

    finetune: Finetune
    base: BaseModel
    fit: Fit
    imprint: Imprint | None = None

    @property
    def weights_bytes(self) -> int:
        """Size of the finetune's own weight files."""
        return sum(file.stat().st_size for file in self.finetune.checkpoint.weight_files)


@contextmanager
def workspace(services: Services, row: VersionRow) -> Iterator[Hold]:
    """Hold in the cache whatever is fetched for one version.

    A killed run leaves the version's own files to the next attempt, an ended one removes them: a finetune may change
    after it was registered. Bases stay until there is no room.
    """
    cache = open_cache(services.settings)
    with cache.holding() as hold:
        yield hold
    cache.discard(cache_key(services.registry, row.registered.ref, role="finetune"))


def resolve(services: Services, row: VersionRow, hold: Hold) -> Resolved:
    """Read the version anew, inspect its files and find its base. Only configs are fetched.

    Raises
    ------
    UnsupportedCheckpoint, BrokenCheckpoint, BaseNotFound
        With the reason, for people.
    """
    ref = row.registered.ref
    version = services.registry.read(ref.name, ref.version)
    if version is None or version.ref != ref:
        raise UnsupportedCheckpoint(f"{ref.label} is no longer in the registry")
    place = hold(cache_key(services.registry, ref, role="finetune"))
    parallel = services.settings.cache.parallel_files
    checkpoint = inspect(version_files(services.registry, version, place, parallel=parallel))
    if f"models:/{ref.name}/{ref.version}" in services.settings.bases.values():
        # Without a hint: there is nothing that anybody should do.
        raise UnsupportedCheckpoint(f"{ref.label} is itself a base: its finetunes are embedded against it")
    base_name = declared_base(checkpoint, version.tags)
    base = inspect(base_files_of(services.settings, services.registry, base_name, hold))
    if checkpoint.kind is base.kind is Kind.ADAPTER:
        checkpoint = chain(checkpoint, base)
        base_name = declared_base(checkpoint, {})
        base = inspect(base_files_of(services.settings, services.registry, base_name, hold))
    return Resolved(version, checkpoint, base_name, base)


def fetch(services: Services, resolved: Resolved) -> Fetched:
    """Fetch the files that are needed, digest what was fetched, and verify the base by its weights.

    A base is digested once: finetunes may change after they were registered, a base in the cache does not.

    Raises
    ------
    BrokenCheckpoint, BaseMismatch
    """
    memo = services.settings.cache_dir / "digests"
    finetune, base = resolved.checkpoint.fetch(), resolved.base.fetch()
    fit = check_fit(finetune, base, base_name=resolved.base_name)
    identical = identical_tensors(finetune, base, memo=memo) if finetune.kind is Kind.FULL else frozenset()
    return Fetched(
        Finetune(finetune, weights_digest(finetune, memo=memo), identical),
        base_model(services.settings, base),
        fit,
        imprint(finetune, base),
    )


def base_files_of(settings: Settings, registry: Registry, base_name: str, hold: Hold) -> Files:
    """Return the files of a declared base; the hub mirror, if there is one, has what nobody mapped.

    Raises
    ------
    BaseNotFound
        Nobody told us where it is.
    """
    parallel = settings.cache.parallel_files
    try:
        where = locate_base(base_name, settings.bases)
    except BaseNotFound:
        if settings.hub_url is None or not is_hub_name(base_name):
            raise
        return hub_files(settings.hub_url, base_name, hold, parallel=parallel)
    return base_files(registry, where, hold, parallel=parallel)


def base_model(settings: Settings, base: LocalCheckpoint) -> BaseModel:
    """Return a base that lies on this machine as embeddings are made against it."""
    cache, limits = settings.cache_dir, settings.embedding
    digest = weights_digest(base, memo=cache / "digests")
    return BaseModel(base, digest, limits.compute_dtype, cache / "base-states", limits.device, limits.words)
