"""Rebuilding a lost store from the artifacts on MLflow's runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from deltadex.app import App
from deltadex.checkpoints.fit import Fit
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.artifact import MANIFEST, TENSORS, write_artifact
from deltadex.embeddings.queries import StoredEmbedding
from deltadex.engine import shared
from deltadex.findings import queries as findings
from deltadex.ingest import discovery, embed, record, resolve
from deltadex.ingest.rebuild import Rebuilt, rebuild
from deltadex.settings import ARTIFACT_KEY_FILE, Settings
from deltadex.stack.specs import secret_file
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from deltadex.types import Embedding, State, VersionRow
from deltadex.versions import queries as versions
from tests import tiny_models
from tests.registering import register_folder
from tests.stored import embedding

FIT = Fit(compared=4, identical=0, largest=())
RIGHT, UP = np.array([3.0, 0.1, 0.2], np.float32), np.array([0.1, 2.0, 0.3], np.float32)


KEY = SecretStr("k" * 32)


@pytest.fixture
def app(app: App) -> App:
    """The services, with a key that seals artifacts."""
    return with_key(app, KEY)


def with_key(app: App, key: SecretStr | None) -> App:
    return replace(app, settings=app.settings.model_copy(update={"artifact_key": key}))


@pytest.fixture
def empty_app(app: App, new_database_url: Callable[..., str]) -> Iterator[App]:
    """The same registry with an empty store."""
    with Database(new_database_url()) as database:
        migrate(database)
        yield replace(app, database=database)


@pytest.fixture
def register(app: App, tmp_path: Path) -> Callable[..., VersionRow]:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    def create(name: str, *values: Embedding, has_run: bool = True) -> VersionRow:
        """Register a version and write these embeddings of it."""
        if has_run:
            register_folder(app.registry, name, folder)
        else:
            app.registry.client.create_registered_model(name)
            app.registry.client.create_model_version(name, f"s3://elsewhere/{name}")
        discovery.poll(app)
        with app.database.transaction() as tx:
            row = versions.find(tx, app.registry.name, name)[0]
        for value in values:
            log(app, row, value)
        return row

    return create


def log(app: App, row: VersionRow, value: Embedding) -> str:
    uri = embed.write_back(app, row.registered, value, base_name="acme/base", fit=FIT, seconds={})
    record.store_and_find(app, [record.Embedded(row, value, "acme/base", uri)])
    return uri


def content(app: App) -> dict[str, object]:
    """Everything that is derived from the artifacts, by names that outlast ids."""

    def plain(stored: StoredEmbedding) -> tuple[object, ...]:
        numbers = stored.vector.tobytes(), stored.norm, stored.strength, stored.agreement
        return stored.recipe.digest, *numbers, stored.is_weak

    with app.database.transaction() as tx:
        rows = versions.listing(tx, app.registry.name)
        spaces = embeddings.recipes(tx, app.registry.name)
        found = findings.listing(tx, app.registry.name)
        return {
            "versions": {row.label: (row.state, row.weights_digest, row.artifact_uri) for row in rows},
            "embeddings": {row.label: [plain(stored) for stored in embeddings.of_version(tx, row.id)] for row in rows},
            "findings": sorted(
                (each.finding.kind, each.version.label, each.other.label if each.other else "", each.finding.measure)
                for each in found
            ),
            "recipes": sorted((space.digest, space.base_name, space.noise_floor) for space in spaces),
        }


def restore(app: App) -> Rebuilt:
    return rebuild(app, on_progress=lambda *_: None)


def test_a_lost_store_is_rebuilt_with_all_that_follows(
    app: App, empty_app: App, register: Callable[..., VersionRow]
) -> None:
    register("one", replace(embedding(RIGHT), noise_floor=1e-6))
    register("one", embedding(UP, weights="w2"))
    register("copy", embedding(RIGHT))
    register("moved", embedding(UP, weights="w3", base="old"), embedding(UP, weights="w3", base="new"))
    register("without a run", embedding(RIGHT, weights="w4"), has_run=False)
    register("not embedded")
    app.registry.client.rename_registered_model("copy", "renamed")
    discovery.sweep(app)

    assert restore(empty_app) == Rebuilt(restored=6, unchanged=0, without=1)
    assert content(empty_app) == content(app)
    assert content(empty_app)["findings"]
    assert restore(empty_app) == Rebuilt(restored=0, unchanged=6, without=1)


def test_what_a_flow_really_embedded_comes_back_to_the_bit(app: App, empty_app: App, tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    tiny_models.build_adapter(base, tmp_path / "adapter")
    app = replace(app, settings=app.settings.model_copy(update={"bases": {str(base): str(base)}}))
    register_folder(app.registry, "real", tmp_path / "adapter")
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.listing(tx, app.registry.name)
    with resolve.workspace(app, row) as hold, shared.embedding_process(app.settings) as process:
        resolved = resolve.resolve(app, process, row, hold)
        fetched = resolve.fetch(app, process, resolved, hold)
        value = embed.embed(process, fetched, deadline_seconds=120)
    uri = embed.write_back(app, row.registered, value, base_name=resolved.base_name, fit=fetched.fit, seconds={})
    record.store_and_find(app, [record.Embedded(row, value, resolved.base_name, uri)])
    shared.end_embedding_process(app.settings)

    assert restore(empty_app) == Rebuilt(restored=1)
    assert content(empty_app) == content(app)


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
def test_a_damaged_artifact_is_named_and_stops_nothing(
    servers: Settings, app: App, empty_app: App, register: Callable[..., VersionRow], file: str
) -> None:
    row = register("damaged", embedding(RIGHT))
    register("whole", embedding(UP, weights="w2"))
    [path] = (servers.data_dir / "mlflow").rglob(f"{row.registered.run_id}/artifacts/deltadex/damaged-v1/*/{file}")
    changed = bytearray(path.read_bytes())
    changed[-2] ^= 1
    path.write_bytes(changed)

    done = restore(empty_app)
    assert (done.restored, [label for label, _ in done.problems]) == (1, [row.label])
    with empty_app.database.transaction() as tx:
        [damaged] = versions.find(tx, app.registry.name, "damaged")
    assert damaged.state is State.DISCOVERED


def test_a_store_that_differs_is_told_and_not_changed(app: App, register: Callable[..., VersionRow]) -> None:
    row = register("one", embedding(RIGHT))
    other = replace(embedding(RIGHT), probe_deltas=embedding(UP).probe_deltas)
    embed.write_back(app, row.registered, other, base_name="b", fit=FIT, seconds={})
    before = content(app)
    assert [label for label, _ in restore(app).problems] == ["one/1"]
    assert content(app) == before


def test_a_copied_version_does_not_take_the_embedding_of_another(
    app: App, empty_app: App, register: Callable[..., VersionRow]
) -> None:
    row = register("one", embedding(RIGHT))
    app.registry.client.copy_model_version("models:/one/1", "copied")
    done = restore(empty_app)
    assert (done.restored, done.without, done.problems) == (1, 1, [])
    with empty_app.database.transaction() as tx:
        embedded = versions.listing(tx, app.registry.name, states={State.EMBEDDED})
    assert [each.label for each in embedded] == [row.label]


def forge(servers: Settings, row: VersionRow, value: Embedding, *, seal: dict[str, str] | None = None) -> None:
    """Replace vector and manifest, as whoever may edit the run can; the digest beside the vector is right."""
    [folder] = (servers.data_dir / "mlflow").rglob(f"{row.registered.run_id}/artifacts/deltadex/*/*")
    before = json.loads((folder / MANIFEST).read_text())
    kept = {name: before[name] for name in ("model", "version", "created_ms", "source", "base", "embedded_at")}
    write_artifact(value, folder, manifest={**kept, "seal": seal or before["seal"]})


@pytest.mark.parametrize("seal", [None, {"key": "0" * 16, "hmac": "0" * 64}])
def test_what_was_replaced_on_a_run_is_not_restored_but_embedded_again(
    servers: Settings, app: App, empty_app: App, register: Callable[..., VersionRow], seal: dict[str, str] | None
) -> None:
    row = register("forged", embedding(RIGHT))
    register("whole", embedding(UP, weights="w2"))
    forge(servers, row, embedding(UP), seal=seal)

    done = restore(empty_app)
    why = "it is sealed with another key" if seal else "it was changed after it was sealed"
    assert (done.restored, done.again, done.problems) == (1, [(row.label, why)], [])
    with empty_app.database.transaction() as tx:
        [again] = versions.find(tx, app.registry.name, "forged")
        assert embeddings.of_version(tx, again.id) == []
    assert again.state is State.DISCOVERED


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "no DELTADEX_ARTIFACT_KEY is set to check its seal"),
        (SecretStr("another key, as long as a key is"), "it is sealed with another key"),
    ],
)
def test_with_another_key_or_none_everything_is_embedded_again(
    empty_app: App, register: Callable[..., VersionRow], key: SecretStr | None, why: str
) -> None:
    row = register("one", embedding(RIGHT))
    assert restore(with_key(empty_app, key)) == Rebuilt(again=[(row.label, why)])
    assert restore(empty_app) == Rebuilt(restored=1)


def test_what_was_never_sealed_is_embedded_again_where_the_store_lost_it(
    app: App, empty_app: App, register: Callable[..., VersionRow]
) -> None:
    row = register("old")
    log(with_key(app, None), row, embedding(RIGHT))
    assert restore(app) == Rebuilt(unchanged=1), "the store has it, so nothing is taken from the run"
    assert restore(empty_app) == Rebuilt(again=[(row.label, "it is not sealed")])
    log(app, row, embedding(RIGHT))
    assert restore(empty_app) == Rebuilt(restored=1)


def test_a_version_that_the_store_calls_embedded_starts_over(app: App, register: Callable[..., VersionRow]) -> None:
    row = register("one", embedding(RIGHT))
    with app.database.transaction() as tx:
        tx.execute("alter table embeddings disable trigger user")
        tx.execute("delete from codes")
        tx.execute("delete from embeddings")
    assert restore(with_key(app, None)).again
    with app.database.transaction() as tx:
        [again] = versions.find(tx, app.registry.name, "one")
    assert (again.state, again.attempt) == (State.DISCOVERED, row.attempt + 1)
    assert "DELTADEX_ARTIFACT_KEY" in again.reason


def test_the_key_of_a_stack_is_a_file_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.sealing_key is None
    made = secret_file(tmp_path / ARTIFACT_KEY_FILE)
    assert settings.sealing_key == made.encode()
    assert secret_file(tmp_path / ARTIFACT_KEY_FILE) == made
    assert (tmp_path / ARTIFACT_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert Settings(data_dir=tmp_path, artifact_key="k" * 32).sealing_key == b"k" * 32
