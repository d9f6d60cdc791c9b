"""Polls and sweeps of a real registry into a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltadex import discovery
from deltadex.domain import Queue, State
from deltadex.services import Services
from deltadex.store import versions, watchers
from tests.registering import register_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    return tmp_path / "files"


def rows(services: Services) -> list[tuple[str, State]]:
    with services.database.transaction() as tx:
        return sorted((row.label, row.state) for row in versions.listing(tx, services.registry.name))


def test_a_poll_finds_each_version_once(services: Services, folder: Path) -> None:
    register_folder(services.registry, "one", folder)
    assert [discovery.poll(services) for _ in range(3)] == [1, 0, 0]
    register_folder(services.registry, "one", folder)
    assert discovery.poll(services) == 1
    assert rows(services) == [("one/1", State.DISCOVERED), ("one/2", State.DISCOVERED)]


def test_a_poll_reads_no_further_back_than_the_overlap_and_a_sweep_reads_all(services: Services, folder: Path) -> None:
    old = register_folder(services.registry, "old", folder)
    with services.database.transaction() as tx:
        watchers.polled(tx, services.registry.name, watermark_ms=old.ref.created_ms + 3_600_000)
    assert discovery.poll(services) == 0
    assert discovery.sweep(services).found == 1


def test_what_lay_there_already_is_backfill(services: Services, folder: Path) -> None:
    watch = services.settings.watch.model_copy(update={"fresh_seconds": 0})
    settings = services.settings.model_copy(update={"watch": watch})
    register_folder(services.registry, "old", folder)
    discovery.poll(Services(settings, services.database, services.registry, services.scheduler))
    register_folder(services.registry, "new", folder)
    discovery.poll(services)
    with services.database.transaction() as tx:
        queues = {row.label: row.queue for row in versions.waiting(tx, services.registry.name, limit=10)}
    assert list(queues.items()) == [("new/1", Queue.FRESH), ("old/1", Queue.BACKFILL)]


def test_a_sweep_marks_what_is_gone_and_keeps_a_name_that_was_made_again_apart(
    services: Services, folder: Path
) -> None:
    register_folder(services.registry, "one", folder)
    discovery.poll(services)
    services.registry.client.delete_registered_model("one")
    register_folder(services.registry, "one", folder)
    discovery.poll(services)
    assert discovery.sweep(services).deleted == 1
    assert rows(services) == [("one/1", State.DELETED), ("one/1", State.DISCOVERED)]


def test_a_renamed_model_keeps_its_row(services: Services, folder: Path) -> None:
    register_folder(services.registry, "one", folder)
    discovery.poll(services)
    services.registry.client.rename_registered_model("one", "uno")
    assert discovery.sweep(services) == discovery.Swept(found=0, deleted=0)
    assert rows(services) == [("uno/1", State.DISCOVERED)]


def test_a_copy_is_a_version_of_its_own(services: Services, folder: Path) -> None:
    register_folder(services.registry, "one", folder)
    services.registry.client.copy_model_version("models:/one/1", "two")
    assert discovery.poll(services) == 2


def test_a_sweep_brings_new_tags_and_aliases(services: Services, folder: Path) -> None:
    register_folder(services.registry, "one", folder)
    discovery.poll(services)
    services.registry.client.set_model_version_tag("one", "1", "team", "legal")
    services.registry.client.set_registered_model_alias("one", "champion", "1")
    discovery.sweep(services)
    with services.database.transaction() as tx:
        [row] = versions.find(tx, services.registry.name, "one")
    assert row.registered.tags["team"] == "legal"
    assert row.registered.aliases == ("champion",)
