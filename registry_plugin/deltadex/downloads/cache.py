"""Bounded LRU cache of folders, shared by all processes of a machine.

    <root>/lock                   held during eviction
    <root>/<entry>/lock           held shared while the entry is in use, exclusively to evict; touched at each use
    <root>/<entry>/reservation    held exclusively by the writer; contains the bytes that the entry will have
    <root>/<entry>/files/         the content

All locks are `flock`s, because entries need shared ones. The kernel releases the locks of a killed process. The files
that it leaves behind count and age like all others. Eviction is atomic: the entry is renamed first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deltadex.errors import Resource, SettingsError, Shortage, is_disk_full
from deltadex.settings import Settings

_LOCK = "lock"
_RESERVATION = "reservation"
_FILES = "files"
_EVICTED = ".evicted-"

_SETTING = "DELTADEX_CACHE__MAX_BYTES"
#: Share of the cache that is not worth looking at every entry; what is written counts at the next look.
_NEGLIGIBLE = 1e-4
_MOST_NEGLIGIBLE = 16 << 20

#: Reserves space for a number of additional bytes.
Reserve = Callable[[int], None]


class FolderCache:
    """Cache of folders by key, with a limit on their total size.

    Parameters
    ----------
    root
        Folder for exclusive use by the cache, on one file system.
    max_bytes
        Limit on the total size of all files, including entries that are still being written.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root.absolute()
        self._max_bytes = max_bytes
        self._in_use: Counter[Path] = Counter()

    @contextmanager
    def entry(self, key: str) -> Iterator[Entry]:
        """Hold a key's entry, created empty if missing. It is not evicted before the block ends."""
        home = self._home(key)
        with _disk_full_as_shortage(home):
            descriptor = _lock_shared(home)
        self._in_use[home] += 1
        try:
            (home / _FILES).mkdir(exist_ok=True)
            _touch(descriptor)
            yield Entry(self, home)
            _touch(descriptor)
        finally:
            self._in_use[home] -= 1
            os.close(descriptor)

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """Yield a function from keys to entries; each entry is held until the block ends."""
        with ExitStack() as stack:
            entries: dict[str, Entry] = {}

            def hold(key: str) -> Entry:
                if key not in entries:
                    entries[key] = stack.enter_context(self.entry(key))
                return entries[key]

            yield hold

    def capacity(self) -> int:
        """Return the number of bytes that the cache can hold when no entry is in use."""
        used = sum(_usage(home).used for home in self._homes()) if self._root.is_dir() else 0
        return min(self._max_bytes, shutil.disk_usage(_existing_ancestor(self._root)).free + used)

    def discard(self, key: str) -> None:
        """Remove the entry of a key, unless it is in use."""
        with suppress(FileNotFoundError), _locked(self._root / _LOCK):  # not found: already removed
            self._evict(self._home(key))

    def _home(self, key: str) -> Path:
        """Return the folder of a key's entry; its name has a readable part for people."""
        readable = re.sub(r"[^A-Za-z0-9._]+", "-", key).strip("-.")[-60:]
        return self._root / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}-{readable}"

    def _make_room(self, home: Path, reservation: int, more: int) -> None:
        """Evict until `more` bytes fit beside all used and reserved ones, and reserve them for an entry."""
        if more < min(self._max_bytes * _NEGLIGIBLE, _MOST_NEGLIGIBLE):
            return
        with _locked(self._root / _LOCK):
            self._remove_evicted()
            usages = sorted(map(_usage, self._homes()), key=lambda usage: usage.last_use_ns)
            self._refuse_impossible(usages, home, more)
            remaining = list(usages)
            for usage in usages:
                if self._shortage(remaining, more) <= 0:
                    break
                if usage.home != home and self._evict(usage.home):
                    remaining.remove(usage)
            shortage = self._shortage(remaining, more)
            if shortage > 0:
                raise SettingsError(
                    f"The cache {self._root} is {shortage} bytes too small for the entries in use at the moment",
                    hint=f"Raise {_SETTING} (now {self._max_bytes}), free disk space, or run fewer workers.",
                    retryable=True,
                )
            [own] = [usage for usage in remaining if usage.home == home]
            os.pwrite(reservation, str(own.reserved + more).encode(), 0)

    def _shortage(self, usages: list[_Usage], more: int) -> int:
        over_limit = sum(usage.reserved for usage in usages) + more - self._max_bytes
        outstanding = sum(usage.reserved - usage.used for usage in usages)
        return max(over_limit, outstanding + more - self._free_bytes())

    def _refuse_impossible(self, usages: list[_Usage], home: Path, more: int) -> None:
        """Raise before a futile eviction: this process's entries must fit the limit, and the new bytes the disk."""
        ours = [usage for usage in usages if usage.home == home or self._in_use[usage.home]]
        needed = sum(usage.reserved for usage in ours) + more
        if needed > self._max_bytes:
            raise Shortage(
                f"{needed} bytes are needed at the same time, but the cache may hold {self._max_bytes}",
                hint=f"Raise {_SETTING} to {needed} or more.",
                resource=Resource.DISK,
                more_than=needed - 1,
            )
        available = self._free_bytes() + sum(usage.used for usage in usages if usage not in ours)
        if more > available:
            raise Shortage(
                f"The disk of {self._root} has room for {available} bytes, but {more} are needed",
                hint=f"Free disk space, or move DELTADEX_DATA_DIR to a larger disk ({_SETTING} is {self._max_bytes}).",
                resource=Resource.DISK,
                more_than=needed - 1,
            )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._root).free

    def _homes(self) -> Iterator[Path]:
        return (path for path in self._root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def _evict(self, home: Path) -> bool:
        """Remove an entry unless it is in use; return True if removed. The caller holds the cache's lock."""
        descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            evicted = home.rename(self._root / f"{_EVICTED}{uuid.uuid4().hex}")
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        shutil.rmtree(evicted, ignore_errors=True)
        return True

    def _remove_evicted(self) -> None:
        """Delete entries whose eviction was interrupted by a kill."""
        for leftover in self._root.glob(f"{_EVICTED}*"):
            shutil.rmtree(leftover, ignore_errors=True)


class Entry:
    """An entry that is in use.

    Attributes
    ----------
    folder
        Folder of the content.
    """

    def __init__(self, cache: FolderCache, home: Path) -> None:
        self._cache = cache
        self._home = home
        self.folder = home / _FILES

    @contextmanager
    def writing(self) -> Iterator[Reserve]:
        """Lock the entry for writing, after waiting for any other writer.

        Yields a function that reserves space, to be called before the bytes are written. It raises a retryable
        SettingsError if only entries of other workers are in the way, and Shortage if the bytes can never fit. A disk
        that fills up while writing also raises Shortage.
        """
        with _locked(self._home / _RESERVATION) as reservation, _disk_full_as_shortage(self._home):
            os.ftruncate(reservation, 0)  # left by a killed writer
            try:
                yield lambda more: self._cache._make_room(self._home, reservation, more)
            finally:
                os.ftruncate(reservation, 0)


#: Holds the entry of a key until the end of the `holding` block.
Hold = Callable[[str], Entry]


@dataclass(frozen=True)
class _Usage:
    """Disk usage of an entry.

    Attributes
    ----------
    used
        Bytes on the disk.
    reserved
        Bytes that the entry will use when its writer is done; equal to `used` without a writer.
    """

    home: Path
    used: int
    reserved: int
    last_use_ns: int


def _usage(home: Path) -> _Usage:
    reserved = _live_reservation(home / _RESERVATION)  # before `used`, which counts a writer that ends in between
    used = sum(_size(Path(folder, name)) for folder, _, names in os.walk(home) for name in names)
    last_use_ns = 0
    with suppress(FileNotFoundError):  # the process was killed while creating the entry
        last_use_ns = (home / _LOCK).stat().st_mtime_ns
    return _Usage(home, used, max(used, reserved), last_use_ns)


def _size(path: Path) -> int:
    """Return a file's size in bytes; 0 if it has just been moved away."""
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0


def _live_reservation(path: Path) -> int:
    """Return the bytes reserved by a live writer, else 0."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0)
    return 0


def _lock_shared(home: Path) -> int:
    """Return a descriptor that holds a shared lock on an entry."""
    home.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with suppress(FileExistsError):  # not `exist_ok`, which raises if the folder vanishes concurrently
            home.mkdir()
        with suppress(FileNotFoundError):  # evicted concurrently: create it again
            descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_same_file(home / _LOCK, descriptor):
                return descriptor
            os.close(descriptor)


def _existing_ancestor(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _touch(descriptor: int) -> None:
    """Set a file's times to the current time; the kernel's own timestamp would be some milliseconds old."""
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))


def _is_same_file(path: Path, descriptor: int) -> bool:
    """Return True if an opened file is still at its path: eviction may have renamed its folder before it was locked."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on a file, after waiting for it, and yield its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _disk_full_as_shortage(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise Shortage(
            f"The disk of {home.parent} is full",
            hint=f"Free disk space, or lower {_SETTING} to less than the disk has.",
            resource=Resource.DISK,
            more_than=0,
        ) from error


def open_cache(settings: Settings) -> FolderCache:
    """Return the cache of fetched files, which all workers of this data folder share."""
    return FolderCache(settings.cache_dir / "folders", max_bytes=settings.cache.max_bytes)
