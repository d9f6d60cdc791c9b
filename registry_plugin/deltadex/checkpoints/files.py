"""The seam to wherever an artifact's files lie: a folder here, MLflow's artifact store elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from deltadex.errors import BrokenCheckpoint


class Files(Protocol):
    """The files of one artifact; only what is fetched is ever copied.

    Attributes
    ----------
    where
        How messages call this artifact: a folder or a URI, without credentials.
    """

    @property
    def where(self) -> str:
        """Return the artifact's name for messages."""

    def sizes(self) -> Mapping[str, int]:
        """Return every file as relative POSIX path → bytes."""

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return a local folder that holds at least these files, at their relative paths."""


class LocalFiles:
    """An artifact that is a folder of this machine already; nothing is copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def where(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def sizes(self) -> Mapping[str, int]:
        """Return every file below the folder, links to files included (the Hugging Face cache is made of them)."""
        if not self._folder.is_dir():
            raise BrokenCheckpoint(f"{self.where} is no folder", hint="Give the folder that holds the model's files.")
        found = (path for path in self._folder.rglob("*") if path.is_file())
        return {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in sorted(found)}

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return the folder itself; raises BrokenCheckpoint for a file that is not there."""
        for path in paths:
            if not (self._folder / inside(path)).is_file():
                raise BrokenCheckpoint(f"{self.where} has no file {path}", hint="Was the upload complete?")
        return self._folder


def inside(path: str) -> PurePosixPath:
    """Return a relative path that stays inside its artifact.

    Raises
    ------
    BrokenCheckpoint
        The path is absolute, climbs with `..`, or is written with backslashes.
    """
    checked = PurePosixPath(path)
    if checked.is_absolute() or ".." in checked.parts or "\\" in path or not checked.parts:
        raise BrokenCheckpoint(f"{path!r} is no path inside an artifact", hint="Log the checkpoint again.")
    return checked
