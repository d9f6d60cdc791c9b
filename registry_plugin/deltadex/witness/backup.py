"""Backup of the store with the log's proofs, its verification without a database, and its restoration."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from deltadex.access import Person, Role
from deltadex.errors import GovernanceError, StoreError
from deltadex.ownership import chain as ownership
from deltadex.reviews import chain
from deltadex.reviews.chain import Chain
from deltadex.store import clock
from deltadex.store.backup import StoredTable, read_tables, snapshot, write_tables
from deltadex.store.copy import OnProgress
from deltadex.store.database import Database
from deltadex.store.migrate import shipped

_FORMAT = "deltadex backup 1"
_MANIFEST, _LOG = "manifest.json", "log.jsonl"
_MAX_MANIFEST = 1 << 20
#: Longest entry that is read: evidence is numbers and names, a comment a person's text.
_MAX_ENTRY = 1 << 24
_HINT = "`deltadex db backup` writes one."
#: A backup is of every table.
_READER = Person("deltadex", Role.VIEWER)


@dataclass(frozen=True)
class Backup:
    """A backup, as its manifest says.

    Attributes
    ----------
    made_at
        Time of the snapshot by the database's clock.
    head
        Head of the log then, as `deltadex.reviews.chain.Chain.head`.
    schema
        Migrations that the store had: checksum by name.
    """

    made_at: datetime
    head: str
    schema: Mapping[str, str]
    tables: Mapping[str, StoredTable]


def back_up(source: Database, path: Path, *, on_progress: OnProgress) -> Backup:
    """Write a snapshot of the store to a new file that only this user can read.

    Raises
    ------
    StoreError
        The file exists or can't be written, or the store is not migrated.
    GovernanceError
        The log or the history of ownership was changed behind its triggers.
    """
    try:
        file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", hint="Name a new file in a folder of yours.") from error
    try:
        # Vectors hardly shrink; the lowest level takes a third of the time.
        with file, snapshot(source) as ours, ZipFile(file, "w", ZIP_DEFLATED, compresslevel=1) as archive:
            found = chain.verify(ours)
            if problem := found.problem or ownership.verify(ours, _READER).problem:
                raise GovernanceError(problem, hint="Back it up with pg_dump, and ask the owner of the database.")
            with archive.open(_LOG, "w", force_zip64=True) as log:
                for entry in chain.entries(ours):
                    log.write(f"{json.dumps(entry)}\n".encode())
            tables = write_tables(ours, archive, on_progress=on_progress)
            schema = {migration.name: migration.checksum for migration in shipped()}
            made = Backup(clock.now(ours), found.head, schema, tables)
            archive.writestr(_MANIFEST, json.dumps({"format": _FORMAT, **asdict(made)}, default=str))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return made


def verify_backup(path: Path) -> tuple[Chain, list[str]]:
    """Recompute the chain of a backup's log without a database; return it with the hash of each entry.

    Raises
    ------
    StoreError
        The file is no backup.
    GovernanceError
        The log leads to another head than the manifest names.
    """
    with _opened(path) as (archive, manifest):
        found, hashes = chain.verify_entries(_lines(archive))
    if found.head != manifest.head:
        raise GovernanceError(
            f"The log of {path} leads to another head than its manifest says: {found.head or 'none'}",
            hint="The file was changed: take another backup.",
        )
    return found, hashes


def restore(target: Database, path: Path, *, on_progress: OnProgress) -> Chain:
    """Read a backup into an empty database, and verify the log and the history of ownership there.

    Raises
    ------
    StoreError
        The file is no backup or of a newer Deltadex, the database is not empty, or a table differs from the backup's.
    GovernanceError
        The log is not the one of the manifest, or it or the history of ownership was changed.
    """
    verify_backup(path)
    with _opened(path) as (archive, manifest):
        read_tables(target, archive, manifest.tables, schema=manifest.schema, on_progress=on_progress)
    with target.transaction() as tx:
        found, owned = chain.verify(tx), ownership.verify(tx, _READER)
    problem = found.problem or owned.problem
    if problem or found.head != manifest.head:
        raise GovernanceError(
            problem or f"The log that was restored leads to another head: {found.head or 'none'}",
            hint="The backup was changed. Drop the database, and take another one.",
        )
    return found


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ZipFile, Backup]]:
    try:
        with ZipFile(path) as archive:
            yield archive, _manifest(archive)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", hint=_HINT) from error
    except (BadZipFile, EOFError, zlib.error, UnicodeDecodeError, RuntimeError) as error:
        raise StoreError(f"{path} is no backup, or a damaged one: {error}", hint=_HINT) from error


def _manifest(archive: ZipFile) -> Backup:
    try:
        with archive.open(_MANIFEST) as file:
            values: dict[str, Any] = json.loads(file.read(_MAX_MANIFEST))
        if values["format"] != _FORMAT:
            raise StoreError(f"The backup is of another format: {values['format']}", hint="Upgrade Deltadex.")
        tables = {
            str(name): StoredTable(tuple(map(str, one["columns"])), int(one["rows"]), str(one["digest"]))
            for name, one in values["tables"].items()
        }
        made_at, schema = datetime.fromisoformat(values["made_at"]), dict(values["schema"])
        return Backup(made_at, str(values["head"]), schema, tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"It is no backup: {error}", hint=_HINT) from error


def _lines(archive: ZipFile) -> Iterator[Mapping[str, Any]]:
    try:
        file = io.TextIOWrapper(archive.open(_LOG), encoding="utf-8")
    except KeyError as error:
        raise StoreError("The backup has no log", hint=_HINT) from error
    with file:
        while line := file.readline(_MAX_ENTRY):
            try:
                entry: Mapping[str, Any] = json.loads(line)
            except ValueError as error:
                raise StoreError(f"The backup's log can't be read: {error}", hint=_HINT) from error
            yield entry
