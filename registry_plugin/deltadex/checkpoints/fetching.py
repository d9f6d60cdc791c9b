"""Bringing files here that lie elsewhere: only what is needed, several at a time, going on where one was cut off."""

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

from deltadex.checkpoints.cache import Reserve
from deltadex.checkpoints.files import inside
from deltadex.errors import BrokenCheckpoint

_CHUNK = 1 << 16
#: What is fetched a second time where a partial file goes on: another file of the same name and size has other bytes.
_OVERLAP = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A file as its source lists it.

    Attributes
    ----------
    size
        Bytes; None where the source doesn't say.
    sha256
        Hex digest, where the source says it.
    """

    size: int | None
    sha256: str | None = None


class Source(Protocol):
    """Where an artifact's files are fetched from."""

    @property
    def where(self) -> str:
        """Return the artifact's name for messages, without credentials."""

    def listing(self) -> Mapping[str, Listed]:
        """Return every file by its relative POSIX path."""

    def download(self, path: str, partial: Path) -> None:
        """Bring one file to `partial`, which may hold the first bytes already, of an earlier try."""


class Place(Protocol):
    """Where fetched files are put: an entry of the cache, or a folder."""

    @property
    def folder(self) -> Path:
        """Return the folder for the files."""

    def writing(self) -> AbstractContextManager[Reserve]:
        """Keep other writers out; gives a function that makes room for so many bytes."""


class PlainFolder:
    """A folder without a bound that one process fetches into. Implements `Place`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def writing(self) -> Iterator[Reserve]:
        """Give a function that does nothing: nobody bounds this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        yield lambda more: None  # noqa: ARG005


class FetchedFiles:
    """Files of a source, fetched as they are needed. Implements `deltadex.checkpoints.files.Files`.

    A file appears under its name when it is complete and verified. Beside the folder, in `<folder>.fetched`, lie the
    unfinished ones and, for each finished one, the SHA-256 of what was fetched. It counts as unchanged while its
    modification time is that of its digest, and is read again, and fetched again where it differs, once it is not.

    Parameters
    ----------
    parallel
        How many files are fetched at the same time.
    """

    def __init__(self, source: Source, place: Place, *, parallel: int = 4) -> None:
        self._source = source
        self._place = place
        self._parallel = parallel
        self._records = place.folder.with_name(f"{place.folder.name}.fetched")
        self.where = source.where

    @cached_property
    def _listing(self) -> Mapping[str, Listed]:
        return self._source.listing()

    def sizes(self) -> Mapping[str, int]:
        """Relative path → size in bytes, 0 where the source doesn't say."""
        return {path: listed.size or 0 for path, listed in self._listing.items()}

    def fetch(self, paths: Iterable[str]) -> Path:
        """Fetch what is not here yet and return the local folder.

        Raises
        ------
        BrokenCheckpoint
            A file does not exist, or did not arrive as it is listed; the latter is retryable.
        SettingsError
            There is no room for it.
        """
        wanted = list(dict.fromkeys(paths))
        for path in wanted:
            if str(inside(path)) not in self._listing:
                raise BrokenCheckpoint(f"{self.where} has no file {path}", hint="Was the upload complete?")
        if not all(map(self._is_here, wanted)):
            with self._place.writing() as reserve:  # another process may have fetched some while we waited
                self._bring_all([path for path in wanted if not self._is_here(path)], reserve)
        return self._place.folder

    def _bring_all(self, paths: list[str], reserve: Reserve) -> None:
        reserve(sum(max(0, (self._listing[path].size or 0) - _size(self._partial(path))) for path in paths))
        self._records.mkdir(exist_ok=True)
        with ThreadPoolExecutor(max_workers=self._parallel, thread_name_prefix="fetch") as pool:
            try:
                list(pool.map(self._bring, paths))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _bring(self, path: str) -> None:
        target, partial, listed = self._place.folder / inside(path), self._partial(path), self._listing[path]
        if not partial.is_file() or _size(partial) != listed.size:
            self._source.download(path, partial)
        digest = self._verify(path, partial)
        record = self._record(path)
        record.write_text(f"{digest}  {path}\n")
        _take_time(record, partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)

    def _verify(self, path: str, partial: Path) -> str:
        """Return the SHA-256 of a file that arrived whole, and make sure that it is on the disk to stay."""
        listed, size = self._listing[path], _size(partial)
        if listed.size not in (None, size):
            if size > (listed.size or 0):
                partial.unlink()
            raise self._differs(path, f"{size} of {listed.size} bytes")
        digest = _sha256(partial, durable=True)
        if listed.sha256 not in (None, digest):
            partial.unlink()
            raise self._differs(path, f"SHA-256 {digest} instead of {listed.sha256}")
        return digest

    def _differs(self, path: str, how: str) -> BrokenCheckpoint:
        return BrokenCheckpoint(
            f"{path} of {self.where} arrived with {how}",
            hint="Is somebody writing it, or a proxy between that cuts it short?",
            retryable=True,
        )

    def _is_here(self, path: str) -> bool:
        target, record, listed = self._place.folder / inside(path), self._record(path), self._listing[path]
        if not (target.is_file() and record.is_file()) or listed.size not in (None, _size(target)):
            return False
        if record.stat().st_mtime_ns == target.stat().st_mtime_ns:
            return True
        if record.read_text().partition(" ")[0] != _sha256(target):
            log.warning("changed since it was fetched file=%s", target)
            return False
        _take_time(record, target)
        return True

    def _partial(self, path: str) -> Path:
        return self._records / f"{_name(path)}.part"

    def _record(self, path: str) -> Path:
        return self._records / f"{_name(path)}.sha256"


def resume(get: Callable[[Mapping[str, str]], requests.Response], partial: Path) -> None:
    """Fetch a file over HTTP, going on behind the bytes that are there already.

    A connection that breaks is made again as long as each one brings something. Where the bytes that are there are
    not those of the file, or the server knows no ranges, everything is fetched anew.

    Parameters
    ----------
    get
        Asks for the file with these headers, streaming. Raises for every status but 200, 206 and 416.

    Raises
    ------
    requests.RequestException
        The connection broke and nothing had come.
    """
    while True:
        before = _size(partial)
        try:
            if _append(get, partial):
                return
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            if _size(partial) <= before:
                raise
            log.info("connection broke, going on bytes=%d error=%r", _size(partial), type(error).__name__)
        else:
            partial.unlink()


def _append(get: Callable[[Mapping[str, str]], requests.Response], partial: Path) -> bool:
    """Fetch the rest of a file; False where it isn't the rest of this one."""
    start = max(0, _size(partial) - _OVERLAP)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    partial.touch()
    with get(headers) as response, partial.open("r+b") as file:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return False
        file.seek(start if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0)
        for chunk in response.iter_content(_CHUNK):
            there = file.read(len(chunk))
            if not chunk.startswith(there):
                return False
            file.write(chunk[len(there) :])
    return True


def _name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def _size(file: Path) -> int:
    """Return a file's bytes, 0 where there is none."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def _take_time(file: Path, other: Path) -> None:
    """Give a file the modification time of another one."""
    time = other.stat().st_mtime_ns
    os.utime(file, ns=(time, time))


def _sha256(path: Path, *, durable: bool = False) -> str:
    """Return a file's hex digest; `durable` waits until the disk has it, so that a power cut can't undo it."""
    with path.open("rb") as file:
        if durable:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
