"""Interface to an artifact's files, and its implementation for local folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from deltadex.errors import BrokenCheckpoint, IncompleteCheckpoint


class Files(Protocol):
    """Files of one artifact; only fetched files are copied.

    Attributes
    ----------
    where
        Name of the artifact in messages: a folder or a URI, without credentials.
    """

    @property
    def where(self) -> str:
        """Return the artifact's name for messages."""

    def sizes(self) -> Mapping[str, int]:
        """Return the size in bytes of every file, by relative POSIX path."""

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return a local folder that holds at least these files, at their relative paths."""


class LocalFiles:
    """An artifact in a local folder; nothing is copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def where(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def sizes(self) -> Mapping[str, int]:
        """Return the sizes, including those of linked files (the Hugging Face cache consists of links)."""
        if not self._folder.is_dir():
            raise BrokenCheckpoint(
                f"{self.where} is not a folder", hint="Give the folder that contains the model's files."
            )
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in sorted(files)}

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return the folder itself; raise BrokenCheckpoint if a file is missing."""
        for path in paths:
            if not (self._folder / inside(path)).is_file():
                raise IncompleteCheckpoint(f"{self.where} has no file {path}", hint="Was the upload complete?")
        return self._folder


def inside(path: str) -> PurePosixPath:
    """Return a relative path after checking that it stays inside its artifact.

    Raises
    ------
    BrokenCheckpoint
        The path is absolute, or contains `..` or backslashes.
    """
    checked = PurePosixPath(path)
    if checked.is_absolute() or ".." in checked.parts or "\\" in path or not checked.parts:
        raise BrokenCheckpoint(f"{path!r} is not a path inside an artifact", hint="Log the checkpoint again.")
    return checked
