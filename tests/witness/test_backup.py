"""Backups: verified without a database, restored into an older schema's place, and refused when they were changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from deltadex.errors import GovernanceError, StoreError
from deltadex.ownership import actions as ownership
from deltadex.ownership.tags import keep_tags
from deltadex.registry.client import RegisteredModel
from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store import backup as store_backup
from deltadex.store import migrate as migrations
from deltadex.store.database import Database
from deltadex.store.migrate import Migration, shipped
from deltadex.witness.backup import back_up, restore, verify_backup
from tests.stored import ADMIN, REGISTRY, discovered
from tests.witness import commands, forging


def ignore(*_: object) -> None:
    pass


@pytest.fixture
def backup(store: Database, tmp_path: Path) -> Path:
    with store.transaction() as tx:
        [first, *_] = reviews.log(tx, ADMIN, Settings(registry=REGISTRY))
        reviews.erase(tx, ADMIN, Settings(registry=REGISTRY), [first.id], comment="on request")
    back_up(store, tmp_path / "backup.zip", on_progress=ignore)
    return tmp_path / "backup.zip"


@pytest.fixture
def empty(new_database_url: Callable[..., str]) -> Iterator[Database]:
    with Database(new_database_url()) as target:
        yield target


def changed(backup: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """Return a copy of a backup in which one file is another one."""
    copy = backup.with_name("changed.zip")
    with ZipFile(backup) as old, ZipFile(copy, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == member else old.read(name))
    return copy


def forged(backup: Path, table: str) -> Path:
    """Return a copy by a forger who changes a row and its digest in the manifest, and not the log."""
    rows = ZipFile(backup).read(f"tables/{table}.copy").replace(b"ben", b"eve")
    manifest = json.loads(ZipFile(backup).read("manifest.json"))
    manifest["tables"][table]["digest"] = hashlib.sha256(rows).hexdigest()
    once = changed(backup, f"tables/{table}.copy", lambda _: rows).rename(backup.with_name("once.zip"))
    return changed(once, "manifest.json", lambda _: json.dumps(manifest).encode())


def test_a_backup_is_private_and_overwrites_nothing(backup: Path, store: Database) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    before = backup.read_bytes()
    with pytest.raises(StoreError, match="File exists"):
        back_up(store, backup, on_progress=ignore)
    assert backup.read_bytes() == before


def test_its_log_is_verified_without_a_database(backup: Path, store: Database) -> None:
    found, hashes = verify_backup(backup)
    with store.transaction() as tx:
        assert found == reviews.verify(tx, ADMIN)
    assert (found.entries, found.broken, found.head) == (4, None, f"4:{hashes[-1]}")


def test_whatever_is_changed_in_its_log_is_noticed(backup: Path) -> None:
    lines = ZipFile(backup).read("log.jsonl").splitlines()

    def with_line(number: int, **values: object) -> Path:
        entry = json.loads(lines[number])
        entry["entry"] |= {name: value for name, value in values.items() if name != "comment"}
        if "comment" in values and entry["text"]:
            entry["text"]["comment"] = values["comment"]
        new = [*lines[:number], json.dumps(entry).encode(), *lines[number + 1 :]]
        return changed(backup, "log.jsonl", lambda _: b"\n".join(new))

    with pytest.raises(GovernanceError, match="another head"):
        verify_backup(with_line(1, reviewer="eve"))
    assert "comment of entry" in verify_backup(with_line(1, comment="nicer"))[0].problem
    for cut in (lines[:-1], lines[1:]):
        with pytest.raises(GovernanceError, match="another head"):
            verify_backup(changed(backup, "log.jsonl", lambda _, cut=cut: b"\n".join(cut)))
    with pytest.raises(GovernanceError, match="incomplete"):
        verify_backup(changed(backup, "log.jsonl", lambda _: b"{}"))
    with pytest.raises(StoreError, match="can't be read"):
        verify_backup(changed(backup, "log.jsonl", lambda _: b"?"))


def test_a_table_that_was_changed_is_not_restored(backup: Path, empty: Database) -> None:
    forged = changed(backup, "tables/decisions.copy", lambda rows: rows.replace(b"ben", b"eve"))
    with pytest.raises(StoreError, match="decisions differs"):
        restore(empty, forged, on_progress=ignore)
    with empty.transaction() as tx:
        assert tx.execute("select count(*) from model_versions").fetchone() == (0,)
    assert restore(empty, backup, on_progress=ignore).entries == 4


def test_rows_that_are_not_those_of_the_log_are_noticed_after_the_restoration(backup: Path, empty: Database) -> None:
    with pytest.raises(GovernanceError, match="was changed"):
        restore(empty, forged(backup, "decisions"), on_progress=ignore)


def test_a_changed_history_of_ownership_is_neither_backed_up_nor_restored(
    store: Database, empty: Database, tmp_path: Path
) -> None:
    settings = Settings(registry=REGISTRY)
    with store.transaction() as tx:
        discovered(tx)
        keep_tags(tx, settings, {"support": RegisteredModel(1, {}, {})})
        ownership.edit(tx, ADMIN, settings, "support", {"owner": "ben"})
    back_up(store, tmp_path / "backup.zip", on_progress=ignore)
    with pytest.raises(GovernanceError, match="ownership history was changed"):
        restore(empty, forged(tmp_path / "backup.zip", "ownership_entries"), on_progress=ignore)
    with store.transaction() as tx:
        tx.execute("alter table ownership_entries disable trigger user")
        tx.execute("update ownership_entries set stated = 'eve'")
    with pytest.raises(GovernanceError, match="ownership history was changed"):
        back_up(store, tmp_path / "another.zip", on_progress=ignore)


@pytest.mark.parametrize("table", ["decisions", "ownership_entries", "time_stamps"])
def test_a_backup_without_one_of_its_tables_is_refused(backup: Path, empty: Database, table: str) -> None:
    manifest = json.loads(ZipFile(backup).read("manifest.json"))
    del manifest["tables"][table]
    stripped = changed(backup, "manifest.json", lambda _: json.dumps(manifest).encode())
    with pytest.raises(StoreError, match=f"lacks the table {table}"):
        restore(empty, stripped, on_progress=ignore)
    with empty.transaction() as tx:
        assert tx.execute("select count(*) from model_versions").fetchone() == (0,)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_another_file_is_no_backup(tmp_path: Path, empty: Database, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(StoreError, match="no backup"):
        restore(empty, tmp_path / "other", on_progress=ignore)


@pytest.mark.parametrize("log", [b"\xff\n", b"[" * 100_000])
def test_a_log_that_is_no_text_or_nested_too_deep_is_no_backup(tmp_path: Path, log: bytes) -> None:
    manifest = {"format": "deltadex backup 1", "made_at": "2026-11-30", "head": "", "schema": {}, "tables": {}}
    with ZipFile(tmp_path / "backup.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("log.jsonl", log)
    with pytest.raises(StoreError, match="damaged"):
        verify_backup(tmp_path / "backup.zip")


def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", "x" * 1000)
    content = bytearray(path.read_bytes())
    content[30 + len("manifest.json")] = 0xFF  # the first byte behind the local header and the name
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        verify_backup(path)


def test_a_backup_of_a_newer_deltadex_is_refused(backup: Path, empty: Database) -> None:
    manifest = json.loads(ZipFile(backup).read("manifest.json"))
    manifest["schema"]["9999_later.sql"] = "0"
    newer = changed(backup, "manifest.json", lambda _: json.dumps(manifest).encode())
    with pytest.raises(StoreError, match="newer"):
        restore(empty, newer, on_progress=ignore)


def test_a_backup_of_an_older_deltadex_is_migrated_after_it_was_read(
    backup: Path, empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Migration("9999_later.sql", b"alter table recipes add column licence text not null default 'unknown'")
    for module in (migrations, store_backup):
        monkeypatch.setattr(module, "shipped", lambda: [*shipped(), later])
    assert restore(empty, backup, on_progress=ignore).entries == 4
    with empty.transaction() as tx:
        assert tx.execute("select licence from recipes").fetchall() == [("unknown",)]


def test_from_the_command_line_with_a_witness(
    store: Database, heads: Path, tmp_path: Path, new_database_url: Callable[..., str]
) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        held = (f"folder:{heads}",)
        return str(commands.run(*arguments, url=store.url, folder=tmp_path, witnesses=held, code=code))

    file = str(tmp_path / "backup.zip")
    run("review", "publish")
    assert "head of the log 3:" in run("db", "backup", "--output", file)
    forging.decide(store)
    run("review", "publish")
    assert "holds later heads" in run("review", "verify", "--backup", file)
    assert "3 entries, all unchanged" in run("db", "restore", file, "--to", new_database_url())
    forging.rewrite(store, 2)
    run("db", "backup", "--output", file + ".forged")
    assert "was rewritten" in run("db", "restore", file + ".forged", "--to", new_database_url(), code=4)
    assert "was rewritten" in run("review", "verify", "--backup", file + ".forged", code=4)
