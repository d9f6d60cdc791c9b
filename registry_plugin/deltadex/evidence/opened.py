"""Packs from others, opened within bounds: folders and ZIP files are untrusted."""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deltadex.errors import EvidenceError
from deltadex.evidence.pack import FORMAT, INDEX

#: Most files, and most bytes of all files together: a log of a million entries is 70 MB of digests.
MOST_FILES, MOST_BYTES = 200, 512 << 20
_HINT = "Ask for another copy, as `deltadex evidence` writes it."


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Open a pack as a folder of plain files.

    Raises
    ------
    EvidenceError
        It is neither a folder nor a ZIP file, too large, or holds anything but plain files at its top.
    """
    if path.is_dir():
        _require_plain(path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="deltadex-") as place:
        _unzip(path, Path(place))
        yield Path(place)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return a file of a pack as JSON.

    Raises
    ------
    EvidenceError
        It is missing or no JSON object.
    """
    try:
        content = json.loads((folder / name).read_bytes())
    except OSError as error:
        raise EvidenceError(f"{name} can't be read: {error.strerror}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{name} can't be read: it is no JSON", hint=_HINT) from error
    if not isinstance(content, dict):
        raise EvidenceError(f"{name} is not an object", hint=_HINT)
    return content


def read_index(folder: Path) -> dict[str, Any]:
    """Return `pack.json`.

    Raises
    ------
    EvidenceError
        It is missing, or the folder is no pack of this format.
    """
    index = read_json(folder, INDEX)
    if index.get("format") != FORMAT:
        raise EvidenceError(f"This is no pack of the format {FORMAT}", hint="A newer Deltadex may read it.")
    return index


def _require_plain(folder: Path) -> None:
    each, size = list(folder.iterdir()), 0
    for one in each:
        if one.is_symlink() or not one.is_file():
            raise EvidenceError(f"The pack holds {one.name}, which is no plain file", hint=_HINT)
        size += one.stat().st_size
    if len(each) > MOST_FILES or size > MOST_BYTES:
        raise EvidenceError(f"The pack is too large: {len(each)} files, {size:,} bytes", hint=_HINT)


def _unzip(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = _plain_names(entries)
            if len(set(names)) < len(names) or len(names) > MOST_FILES:
                raise EvidenceError("The ZIP file has a name twice, or too many files", hint=_HINT)
            if odd := [name for name in names if not name or name in (".", "..") or set(name) & set("/\\:\0")]:
                raise EvidenceError(f"The ZIP file holds {odd[0]!r}, which is no plain file name", hint=_HINT)
            left = MOST_BYTES
            for one, name in zip(entries, names, strict=True):
                left = _extract(archive, one, folder / name, left)
    except OSError as error:
        raise EvidenceError(f"{path} can't be read: {error.strerror}", hint=_HINT) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise EvidenceError(f"{path} is damaged, or neither a folder nor a ZIP file", hint=_HINT) from error


def _plain_names(entries: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names of files, without the one folder that holds them all if there is one."""
    names = [one.filename for one in entries]
    tops = {name.partition("/")[0] for name in names if "/" in name}
    if len(tops) == 1 and all("/" in name for name in names) and tops.isdisjoint(("", ".", "..")):
        return [name.partition("/")[2] for name in names]
    return names


def _extract(archive: zipfile.ZipFile, one: zipfile.ZipInfo, file: Path, left: int) -> int:
    """Write one file and return how many bytes are left; a header may lie about its size."""
    with archive.open(one) as source, file.open("xb") as target:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise EvidenceError("The ZIP file is too large when unpacked", hint=_HINT)
            target.write(block)
    return left
