"""Polls and sweeps of a real registry, stored in a real database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.ingest import discovery
from deltadex.ingest import queries as watchers
from deltadex.setting_groups import ScopeSettings
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from deltadex.types import Queue, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.registering import register_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    return tmp_path / "files"


def rows(app: App) -> list[tuple[str, State]]:
    with app.database.transaction() as tx:
        return sorted((row.label, row.state) for row in versions.listing(tx, app.registry.name))


def test_a_poll_finds_each_version_once(app: App, folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    assert [discovery.poll(app) for _ in range(3)] == [1, 0, 0]
    register_folder(app.registry, "one", folder)
    assert discovery.poll(app) == 1
    assert rows(app) == [("one/1", State.DISCOVERED), ("one/2", State.DISCOVERED)]


def test_a_poll_reads_no_further_back_than_the_overlap_and_a_sweep_reads_all(app: App, folder: Path) -> None:
    old = register_folder(app.registry, "old", folder)
    watch = app.settings.watch.model_copy(update={"overlap_seconds": 0})
    app = replace(app, settings=app.settings.model_copy(update={"watch": watch}))
    with app.database.transaction() as tx:
        watchers.record_poll(tx, app.registry.name, watermark_ms=old.ref.created_ms + 1)
    assert discovery.poll(app) == 0
    assert discovery.sweep(app).found == 1


def test_what_lay_there_already_is_backfill(app: App, folder: Path) -> None:
    watch = app.settings.watch.model_copy(update={"fresh_seconds": 0})
    settings = app.settings.model_copy(update={"watch": watch})
    register_folder(app.registry, "old", folder)
    discovery.poll(App(settings, app.database, app.registry, app.scheduler))
    register_folder(app.registry, "new", folder)
    discovery.poll(app)
    with app.database.transaction() as tx:
        queues = {row.label: row.queue for row in versions.listing(tx, app.registry.name)}
    assert queues == {"new/1": Queue.FRESH, "old/1": Queue.BACKFILL}


def test_a_sweep_marks_what_is_gone_and_keeps_a_name_that_was_made_again_apart(app: App, folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    discovery.poll(app)
    app.registry.client.delete_registered_model("one")
    register_folder(app.registry, "one", folder)
    discovery.poll(app)
    assert discovery.sweep(app).deleted == 1
    assert rows(app) == [("one/1", State.DELETED), ("one/1", State.DISCOVERED)]


def test_what_is_gone_is_reported_once(app: App, folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    discovery.poll(app)
    app.registry.client.delete_registered_model("one")
    assert [discovery.sweep(app).deleted for _ in range(3)] == [1, 0, 0]


def test_a_registry_that_lost_most_of_its_versions_is_asked_about(app: App, folder: Path) -> None:
    for _ in range(12):
        register_folder(app.registry, "one", folder)
    kept = register_folder(app.registry, "two", folder)
    discovery.poll(app)
    app.registry.client.delete_registered_model("one")
    with pytest.raises(RegistryError, match="12 of 13 known versions are missing") as caught:
        discovery.sweep(app)
    assert not caught.value.retryable
    assert {state for _, state in rows(app)} == {State.DISCOVERED}
    watch = app.settings.watch.model_copy(update={"max_deleted_share": 1.0})
    assert discovery.sweep(replace(app, settings=app.settings.model_copy(update={"watch": watch}))).deleted == 12
    assert (kept.ref.label, State.DISCOVERED) in rows(app)


def test_only_what_is_in_scope_is_taken_and_what_was_taken_stays(app: App, folder: Path) -> None:
    def taking(**scope: object) -> App:
        return replace(app, settings=app.settings.model_copy(update={"scope": ScopeSettings(**scope)}))

    for name in ("support-a", "support-scratch", "churn-forest"):
        register_folder(app.registry, name, folder)
    narrow = taking(models=["support-*"], except_models=["*-scratch"])
    assert (discovery.poll(narrow), discovery.sweep(narrow).found) == (1, 0)
    assert rows(app) == [("support-a/1", State.DISCOVERED)]
    app.registry.client.set_model_version_tag("support-scratch", "1", "team", "support")
    tagged = taking(tags={"team": "support"})
    assert (discovery.poll(tagged), discovery.sweep(tagged)) == (1, discovery.Swept(found=0, deleted=0))
    assert discovery.poll(taking(except_models=["churn-*"])) == 0
    app.registry.client.set_model_version_tag("churn-forest", "1", "kind", "tabular")
    assert discovery.sweep(taking(except_tags={"kind": "tabular"})) == discovery.Swept(found=0, deleted=0)
    assert discovery.sweep(app).found == 1
    assert len(rows(app)) == 3


def test_a_renamed_model_keeps_its_row(app: App, folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    discovery.poll(app)
    app.registry.client.rename_registered_model("one", "uno")
    assert discovery.sweep(app) == discovery.Swept(found=0, deleted=0)
    assert rows(app) == [("uno/1", State.DISCOVERED)]


def test_a_copy_is_a_version_of_its_own(app: App, folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    app.registry.client.copy_model_version("models:/one/1", "two")
    assert discovery.poll(app) == 2


def test_a_sweep_brings_new_tags_and_aliases(app: App, folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    discovery.poll(app)
    app.registry.client.set_model_version_tag("one", "1", "team", "legal")
    app.registry.client.set_registered_model_alias("one", "champion", "1")
    discovery.sweep(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, "one")
    assert row.registered.tags["team"] == "legal"
    assert row.registered.aliases == ("champion",)


def test_another_base_in_the_tag_starts_a_version_over_that_had_ended(app: App, folder: Path) -> None:
    for name in ("ended", "waits", "other"):
        register_folder(app.registry, name, folder)
    discovery.sweep(app)
    with app.database.transaction() as tx:
        known = {row.registered.ref.name: row for row in versions.listing(tx, app.registry.name)}
        for name in ("ended", "other"):
            transitions.mark_ended(tx, known[name].id, state=State.UNSUPPORTED, reason="no base")
    for name in ("ended", "waits"):
        app.registry.client.set_model_version_tag(name, "1", "deltadex.base", "acme/base")
    app.registry.client.set_model_version_tag("other", "1", "team", "a")
    for _ in range(2):
        discovery.sweep(app)
    with app.database.transaction() as tx:
        now = {row.registered.ref.name: row for row in versions.listing(tx, app.registry.name)}
    assert {name: (row.state, row.attempt) for name, row in now.items()} == {
        "ended": (State.DISCOVERED, 2),
        "waits": (State.DISCOVERED, 1),
        "other": (State.UNSUPPORTED, 1),
    }
    assert "deltadex.base" in now["ended"].reason


def test_a_name_that_no_database_holds_stops_no_other_and_is_reported(app: App, folder: Path) -> None:
    register_folder(app.registry, "churn\0summaries", folder)
    register_folder(app.registry, "one", folder)
    assert discovery.poll(app) == 1
    with pytest.raises(RegistryError, match=r"1 registered models have names") as caught:
        discovery.sweep(app)
    assert "Rename" in caught.value.hint
    assert rows(app) == [("one/1", State.DISCOVERED)]


def test_a_registry_belongs_to_one_store(app: App, new_database_url: Callable[..., str], folder: Path) -> None:
    register_folder(app.registry, "one", folder)
    with Database(new_database_url()) as database:
        migrate(database)
        other = replace(app, database=database)
        discovery.claim(app)
        discovery.claim(app)
        with pytest.raises(RegistryError, match="belongs to another Deltadex") as caught:
            discovery.claim(other)
        assert "rebuild" in caught.value.hint
        discovery.claim(other, takes_over=True)
        with pytest.raises(RegistryError, match="belongs to another Deltadex"):
            discovery.claim(app)


def test_a_mark_that_was_deleted_with_its_experiment_is_set_again(app: App) -> None:
    discovery.claim(app)
    experiment = app.registry.client.get_experiment_by_name("deltadex")
    app.registry.client.delete_experiment_tag(experiment.experiment_id, "deltadex.store")
    app.registry.client.delete_experiment(experiment.experiment_id)
    discovery.claim(app)
    discovery.claim(app)
