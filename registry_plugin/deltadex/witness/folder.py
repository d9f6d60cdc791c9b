"""A witness that is a file to which heads are only appended, such as one on a share of another machine."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path

from deltadex.errors import SettingsError, WitnessError
from deltadex.settings import Settings
from deltadex.witness.head import Held, LogHead, file_name, parse_lines
from deltadex.witness.kinds import Address

#: `FS_IOC_GETFLAGS` and `FS_APPEND_FL` of linux/fs.h, for the attribute that `chattr +a` sets.
_GET_FLAGS, _APPEND_ONLY = 0x80086601, 0x20
#: Largest file that is read: a head has about 200 bytes, or with a time stamp 8 kB.
_MAX_BYTES = 1 << 30


class FolderWitness:
    """One file of JSON lines per registry, in a folder that exists.

    Each head is one write to the end of the file. Nothing is ever rewritten, so the file may have the attribute that
    `chattr +a` sets, with which this account can't rewrite it either.
    """

    def __init__(self, address: Address, settings: Settings) -> None:  # noqa: ARG002 - as every kind
        self.name = address.shown
        self.least_pause = address.pause(0)
        self._folder = Path(address.place)
        if not self._folder.is_absolute():
            raise SettingsError(f"Witness {self.name}: not an absolute path", hint="Write it as folder:/mnt/heads.")

    def publish(self, head: LogHead) -> LogHead:
        """Append a head; raises WitnessError if the folder is missing or the file can't be written."""
        try:
            self._append(head)
        except OSError as error:
            raise WitnessError(
                f"{self.name}: {error.strerror or error}",
                hint="The folder must exist, and the watcher must be able to append to its files.",
                retryable=True,
            ) from error
        return head

    def held(self, registry: str) -> Held:
        """Return the heads in the file; raises WitnessError if it can't be read."""
        path = self._path(registry)
        try:
            with os.fdopen(_opened_plain(path), encoding="utf-8", errors="replace") as file:
                if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                    raise WitnessError(f"{path} is too large to be a list of heads", hint="Begin a new folder.")
                return parse_lines(file.read().split("\n"), registry)
        except FileNotFoundError:
            self._require_folder()
            return Held(())
        except OSError as error:
            raise WitnessError(f"{self.name}: {error.strerror or error}", hint="Who verifies must read it.") from error

    def caution(self) -> str:
        """Return that a file lacks the attribute of `chattr +a`, or that this can't be told here."""
        files = sorted(self._folder.glob("*.jsonl"))
        flags = [_is_append_only(path) for path in files]
        if False in flags:
            return f"{files[flags.index(False)].name} is not append-only: `chattr +a` makes it so"
        return "whether its files are append-only can't be told here" if None in flags or not files else ""

    def _append(self, head: LogHead) -> None:
        self._require_folder()
        path = self._path(head.registry)
        is_new = not path.exists()
        # Not through a link: who may write into the folder may not choose another file.
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(file).st_size
            # A write that was cut off, as by a full disk, left a line without an end.
            start = "\n" if size and os.pread(file, 1, size - 1) != b"\n" else ""
            line = f"{start}{head.line()}\n".encode()
            if os.write(file, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(file)
        finally:
            os.close(file)
        if is_new:
            _sync(self._folder)

    def _path(self, registry: str) -> Path:
        return self._folder / f"{file_name(registry)}.jsonl"

    def _require_folder(self) -> None:
        # It is not made here: where a share is not mounted, a new folder would be on this machine.
        if not self._folder.is_dir():
            raise WitnessError(
                f"{self.name}: there is no such folder", hint="Make the folder, or mount it.", retryable=True
            )


def _is_append_only(path: Path) -> bool | None:
    """Return True if a file has the append-only attribute; None if its file system doesn't tell."""
    try:
        with os.fdopen(_opened_plain(path), "rb") as file:
            flags = fcntl.ioctl(file, _GET_FLAGS, bytes(8))
    except OSError:
        return None
    return bool(struct.unpack("I", flags[:4])[0] & _APPEND_ONLY)


def _opened_plain(path: Path) -> int:
    """Open a file to read it; raise OSError unless it is a plain one: a pipe would let the watcher wait for ever."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError("not a plain file")
    return file


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
