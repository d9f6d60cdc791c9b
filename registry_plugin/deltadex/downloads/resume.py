"""Parallel, resumable downloads of selected files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import requests

from deltadex.downloads.cache import Reserve
from deltadex.downloads.files import inside
from deltadex.errors import BrokenCheckpoint, IncompleteCheckpoint

_CHUNK = 1 << 16
#: Bytes fetched again when a download resumes, to detect that the file was replaced.
_OVERLAP = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedFile:
    """A file as listed by its source.

    Attributes
    ----------
    size
        Size in bytes; None if the source does not list it.
    sha256
        Hex digest; None if the source does not list it.
    """

    size: int | None
    sha256: str | None = None


class Source(Protocol):
    """A remote artifact to fetch files from."""

    @property
    def where(self) -> str:
        """Return the artifact's name for messages, without credentials."""

    def listing(self) -> Mapping[str, ListedFile]:
        """Return every file by its relative POSIX path."""

    def download(self, path: str, partial: Path) -> None:
        """Download one file to `partial`, which may contain its first bytes from an earlier attempt."""


class Destination(Protocol):
    """Destination of fetched files: an entry of the cache, or a folder."""

    @property
    def folder(self) -> Path:
        """Return the folder for the files."""

    def writing(self) -> AbstractContextManager[Reserve]:
        """Exclude other writers, and yield a function that reserves space for a number of bytes."""


class PlainFolder:
    """A folder without a size limit, used by one process. Implements `Destination`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def writing(self) -> Iterator[Reserve]:
        """Yield a function that does nothing, because the folder has no size limit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        yield lambda more: None  # noqa: ARG005


class FetchedFiles:
    """Files of a source, fetched on demand. Implements `deltadex.downloads.files.Files`.

    A file appears under its name once it is complete and verified. `<folder>.fetched`, beside the folder, contains
    partial files and the SHA-256 of each complete one. A file counts as unchanged while it has the modification time
    of its digest's file; else it is hashed again, and fetched again if the digest differs.

    Parameters
    ----------
    parallel
        Number of parallel downloads.
    """

    def __init__(self, source: Source, destination: Destination, *, parallel: int = 4) -> None:
        self._source = source
        self._destination = destination
        self._parallel = parallel
        self._records = destination.folder.with_name(f"{destination.folder.name}.fetched")
        self.where = source.where

    @cached_property
    def _listing(self) -> Mapping[str, ListedFile]:
        return self._source.listing()

    def sizes(self) -> Mapping[str, int]:
        """Return sizes in bytes by relative path; 0 if the source does not list it."""
        return {path: listed.size or 0 for path, listed in self._listing.items()}

    def fetch(self, paths: Iterable[str]) -> Path:
        """Fetch the files that are missing locally, and return the local folder.

        Raises
        ------
        BrokenCheckpoint
            A file does not exist, or its content differs from the listing; the latter is retryable.
        SettingsError
            There is not enough space.
        """
        requested = list(dict.fromkeys(paths))
        for path in requested:
            if str(inside(path)) not in self._listing:
                raise IncompleteCheckpoint(f"{self.where} has no file {path}", hint="Was the upload complete?")
        if not self.has(requested):
            with (
                self._destination.writing() as reserve
            ):  # re-check: another process may have fetched some while we waited
                self._fetch_all([path for path in requested if not self._is_complete(path)], reserve)
        return self._destination.folder

    def has(self, paths: Iterable[str]) -> bool:
        """Return whether all of these files are on this machine already."""
        return all(map(self._is_complete, paths))

    def _fetch_all(self, paths: list[str], reserve: Reserve) -> None:
        reserve(sum(max(0, (self._listing[path].size or 0) - _size(self._partial(path))) for path in paths))
        self._records.mkdir(exist_ok=True)
        with ThreadPoolExecutor(max_workers=self._parallel, thread_name_prefix="fetch") as pool:
            try:
                list(pool.map(self._fetch_one, paths))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch_one(self, path: str) -> None:
        target, partial, listed = self._destination.folder / inside(path), self._partial(path), self._listing[path]
        if not partial.is_file() or _size(partial) != listed.size:
            self._source.download(path, partial)
        digest = self._verify(path, partial)
        record = self._record(path)
        record.write_text(f"{digest}  {path}\n")
        _copy_mtime(record, partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)

    def _verify(self, path: str, partial: Path) -> str:
        """Check a downloaded file's size and digest, sync it to disk, and return its SHA-256."""
        listed, size = self._listing[path], _size(partial)
        if listed.size not in (None, size):
            if size > (listed.size or 0):
                partial.unlink()
            raise self._mismatch(path, f"{size} of {listed.size} bytes")
        digest = _sha256(partial, durable=True)
        if listed.sha256 not in (None, digest):
            partial.unlink()
            raise self._mismatch(path, f"SHA-256 {digest} instead of {listed.sha256}")
        return digest

    def _mismatch(self, path: str, problem: str) -> BrokenCheckpoint:
        return BrokenCheckpoint(
            f"{path} of {self.where} arrived with {problem}",
            hint="Is it being written at the moment, or does a proxy truncate it?",
            retryable=True,
        )

    def _is_complete(self, path: str) -> bool:
        target, record, listed = self._destination.folder / inside(path), self._record(path), self._listing[path]
        if not (target.is_file() and record.is_file()) or listed.size not in (None, _size(target)):
            return False
        if record.stat().st_mtime_ns == target.stat().st_mtime_ns:
            return True
        if record.read_text().partition(" ")[0] != _sha256(target):
            log.warning("file changed since it was fetched file=%s", target)
            return False
        _copy_mtime(record, target)
        return True

    def _partial(self, path: str) -> Path:
        return self._records / f"{_name(path)}.part"

    def _record(self, path: str) -> Path:
        return self._records / f"{_name(path)}.sha256"


def resume(get: Callable[[Mapping[str, str]], requests.Response], partial: Path) -> None:
    """Fetch a file over HTTP, and resume after the bytes already in `partial`.

    A broken connection is retried as long as each attempt makes progress. If the existing bytes differ from the
    source's, or the server does not support ranges, the whole file is fetched again.

    Parameters
    ----------
    get
        Function that requests the file with these headers, streaming. It must raise for every status except 200, 206
        and 416.

    Raises
    ------
    requests.RequestException
        The connection broke before any new bytes arrived.
    """
    while True:
        size_before = _size(partial)
        try:
            if _append(get, partial):
                return
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            if _size(partial) <= size_before:
                raise
            log.info("connection broke, resuming bytes=%d error=%r", _size(partial), type(error).__name__)
        else:
            partial.unlink()


def _append(get: Callable[[Mapping[str, str]], requests.Response], partial: Path) -> bool:
    """Fetch the rest of a file; return False if the existing bytes are not its beginning."""
    start = max(0, _size(partial) - _OVERLAP)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    partial.touch()
    with get(headers) as response, partial.open("r+b") as file:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return False
        file.seek(start if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0)
        for chunk in response.iter_content(_CHUNK):
            existing = file.read(len(chunk))
            if not chunk.startswith(existing):
                return False
            file.write(chunk[len(existing) :])
    return True


def _name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def _size(file: Path) -> int:
    """Return a file's size in bytes, 0 if it does not exist."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def _copy_mtime(file: Path, other: Path) -> None:
    """Copy the modification time of `other` to `file`."""
    time = other.stat().st_mtime_ns
    os.utime(file, ns=(time, time))


def _sha256(path: Path, *, durable: bool = False) -> str:
    """Return a file's hex digest; `durable` syncs it to disk first, so that it survives a power failure."""
    with path.open("rb") as file:
        if durable:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
