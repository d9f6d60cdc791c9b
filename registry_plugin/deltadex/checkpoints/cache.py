"""A bounded cache of folders that all processes of one machine share; what was not used for longest goes first.

    <root>/lock                   held while room is made
    <root>/<entry>/lock           held shared while the entry is in use, exclusively to evict; touched at each use
    <root>/<entry>/promise        held exclusively by the one who writes; says how many bytes the entry will hold
    <root>/<entry>/files/         the content

All locks are `flock`s: the kernel drops them with their process, so a killed one leaves nothing to clean up but files
that count and age like all others. An entry leaves in one step, by being renamed.
"""

from __future__ import annotations

import errno
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

from deltadex.errors import Resource, SettingsError, Shortage

_LOCK = "lock"
_PROMISE = "promise"
_FILES = "files"
_EVICTED = ".evicted-"

_SETTING = "DELTADEX_CACHE__MAX_BYTES"

#: Makes room for this many bytes more.
Reserve = Callable[[int], None]


class FolderCache:
    """Folders by key, at most so many bytes of them on this machine.

    Parameters
    ----------
    root
        A folder of its own, on one file system.
    max_bytes
        Bound on the sizes of all files, those of entries that are still being written included.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root.absolute()
        self._max_bytes = max_bytes
        self._in_use: Counter[Path] = Counter()

    @contextmanager
    def entry(self, key: str) -> Iterator[Entry]:
        """Hold the entry of a key; made empty where there is none, and never evicted before the block ends."""
        home = self._home(key)
        with _disk_full_is_stated(home):
            descriptor = _hold(home)
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
        """Give a function from keys to entries, each of which is held until the block ends."""
        with ExitStack() as stack:
            entries: dict[str, Entry] = {}

            def hold(key: str) -> Entry:
                if key not in entries:
                    entries[key] = stack.enter_context(self.entry(key))
                return entries[key]

            yield hold

    def capacity(self) -> int:
        """Return how many bytes it can hold if nothing in it is in use."""
        held = sum(_measure(home).held for home in self._homes()) if self._root.is_dir() else 0
        return min(self._max_bytes, shutil.disk_usage(_existing(self._root)).free + held)

    def discard(self, key: str) -> None:
        """Remove the entry of a key, unless somebody uses it."""
        with suppress(FileNotFoundError), _locked(self._root / _LOCK):  # not found: gone already
            self._evict(self._home(key))

    def _home(self, key: str) -> Path:
        """Return where a key's entry lies; the readable part is for people who look at their disk."""
        readable = re.sub(r"[^A-Za-z0-9._]+", "-", key).strip("-.")[-60:]
        return self._root / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}-{readable}"

    def _make_room(self, home: Path, promise: int, more: int) -> None:
        """Evict until `more` bytes fit beside all that is there or promised, and promise them to one entry."""
        with _locked(self._root / _LOCK):
            self._remove_evicted()
            usages = sorted(map(_measure, self._homes()), key=lambda usage: usage.last_use_ns)
            self._refuse_what_never_fits(usages, home, more)
            remaining = list(usages)
            for usage in usages:
                if self._shortage(remaining, more) <= 0:
                    break
                if usage.home != home and self._evict(usage.home):
                    remaining.remove(usage)
            shortage = self._shortage(remaining, more)
            if shortage > 0:
                raise SettingsError(
                    f"The cache {self._root} is {shortage} bytes too small for what its workers use at this moment",
                    hint=f"Raise {_SETTING} (now {self._max_bytes}), give the disk more room, or run fewer workers.",
                    retryable=True,
                )
            [own] = [usage for usage in remaining if usage.home == home]
            os.pwrite(promise, str(own.promised + more).encode(), 0)

    def _shortage(self, usages: list[_Usage], more: int) -> int:
        over_limit = sum(usage.promised for usage in usages) + more - self._max_bytes
        outstanding = sum(usage.promised - usage.held for usage in usages)
        return max(over_limit, outstanding + more - self._free_bytes())

    def _refuse_what_never_fits(self, usages: list[_Usage], home: Path, more: int) -> None:
        """Raise before anything is evicted in vain: what this process itself uses has to fit, and so does the disk."""
        ours = [usage for usage in usages if usage.home == home or self._in_use[usage.home]]
        needed = sum(usage.promised for usage in ours) + more
        if needed > self._max_bytes:
            raise Shortage(
                f"{needed} bytes are needed at the same time, and the cache may hold {self._max_bytes}",
                hint=f"Raise {_SETTING} to {needed} or more.",
                resource=Resource.DISK,
                more_than=needed - 1,
            )
        available = self._free_bytes() + sum(usage.held for usage in usages if usage not in ours)
        if more > available:
            raise Shortage(
                f"The disk of {self._root} has room for {available} bytes, and {more} are needed",
                hint=f"Free disk space, or move DELTADEX_DATA_DIR to a larger disk ({_SETTING} is {self._max_bytes}).",
                resource=Resource.DISK,
                more_than=needed - 1,
            )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._root).free

    def _homes(self) -> Iterator[Path]:
        return (path for path in self._root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def _evict(self, home: Path) -> bool:
        """Remove an entry that nobody uses; the caller holds the cache's lock."""
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
        """Finish what was killed while it removed an entry."""
        for leftover in self._root.glob(f"{_EVICTED}*"):
            shutil.rmtree(leftover, ignore_errors=True)


class Entry:
    """An entry that is held.

    Attributes
    ----------
    folder
        The content: any files.
    """

    def __init__(self, cache: FolderCache, home: Path) -> None:
        self._cache = cache
        self._home = home
        self.folder = home / _FILES

    @contextmanager
    def writing(self) -> Iterator[Reserve]:
        """Be the only one on this machine who writes into the entry; wait for whoever does.

        Gives a function that makes room for bytes, to be called before they are written. It raises SettingsError,
        which is retryable where only other workers' entries are in the way. So does a disk that fills up meanwhile.
        """
        with _locked(self._home / _PROMISE) as promise, _disk_full_is_stated(self._home):
            os.ftruncate(promise, 0)  # of one who was killed
            try:
                yield lambda more: self._cache._make_room(self._home, promise, more)
            finally:
                os.ftruncate(promise, 0)


#: Holds the entry of a key until the block that gave this function ends.
Hold = Callable[[str], Entry]


@dataclass(frozen=True)
class _Usage:
    """What an entry takes up.

    Attributes
    ----------
    held
        Bytes on the disk.
    promised
        Bytes that it holds when its writer is done; `held` where nobody writes.
    """

    home: Path
    held: int
    promised: int
    last_use_ns: int


def _measure(home: Path) -> _Usage:
    promised = _live_promise(home / _PROMISE)  # first: a writer that ends meanwhile is then in what is held
    held = sum(_size(Path(folder, name)) for folder, _, names in os.walk(home) for name in names)
    last_use_ns = 0
    with suppress(FileNotFoundError):  # killed as it was made
        last_use_ns = (home / _LOCK).stat().st_mtime_ns
    return _Usage(home, held, max(held, promised), last_use_ns)


def _size(path: Path) -> int:
    """Return a file's bytes; 0 for one that is being moved at this moment."""
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0


def _live_promise(path: Path) -> int:
    """Return what a living writer promised, else 0."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0)
    return 0


def _hold(home: Path) -> int:
    """Return a descriptor that holds an entry's lock, shared."""
    home.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with suppress(FileExistsError):  # not `exist_ok`, which raises where a folder vanishes at this moment
            home.mkdir()
        with suppress(FileNotFoundError):  # evicted at this moment: make it again
            descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_at(home / _LOCK, descriptor):
                return descriptor
            os.close(descriptor)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _touch(descriptor: int) -> None:
    """Set a file's times to now; what the kernel takes for now is some milliseconds old."""
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))


def _is_at(path: Path, descriptor: int) -> bool:
    """Tell whether a file that was opened still lies there: eviction may have renamed its folder before the lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold a file's lock exclusively, waiting for it; gives the descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _disk_full_is_stated(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SettingsError(
            f"The disk of {home.parent} is full", hint=f"Free disk space, or lower {_SETTING} below what the disk has."
        ) from error
